package aggregation

import (
	"k8s.io/component-base/metrics"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	availability "k8s.io/kube-aggregator/pkg/controllers/status/metrics"
)

// Metrics are kube-aggregator's. They name APIServices, so that they are kept for one cluster of a process.
type Metrics struct{ upstream *availability.Metrics }

// NewMetrics makes metrics and registers them.
func NewMetrics(register func(metrics.Registerable) error, custom func(metrics.StableCollector) error) (*Metrics, error) {
	m := &Metrics{availability.New()}
	return m, m.upstream.Register(register, custom)
}

func (m *Metrics) gauge(s *apiregistration.APIService) {
	if m != nil {
		m.upstream.SetUnavailableGauge(s)
	}
}

func (m *Metrics) count(was, is *apiregistration.APIService) {
	if m != nil {
		m.upstream.SetUnavailableCounter(was, is)
	}
}

// gauges follows what the APIServices say, and forgets those that are gone. known is what it returned before.
func (m *Metrics) gauges(all []*apiregistration.APIService, known map[string]bool) map[string]bool {
	if m == nil {
		return nil
	}
	now := make(map[string]bool, len(all))
	for _, s := range all {
		m.gauge(s)
		now[s.Name] = true
	}
	for name := range known {
		if !now[name] {
			m.forget(name)
		}
	}
	return now
}

func (m *Metrics) forget(name string) {
	if m != nil {
		m.upstream.ForgetAPIService(name)
	}
}
