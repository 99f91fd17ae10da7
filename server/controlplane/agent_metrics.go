package controlplane

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowlock-io/rowlock/server/health"
)

// agentMetrics count the agents of all clusters of a process. loop is empty for the agent as a whole.
type agentMetrics struct {
	running  *prometheus.GaugeVec
	restarts *prometheus.CounterVec
}

func newAgentMetrics(reg prometheus.Registerer) (*agentMetrics, error) {
	labels := []string{"agent", "loop"}
	m := &agentMetrics{
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rowlock_agent_running", Help: "Clusters in which an agent, or one of its loops, runs in this process.",
		}, labels),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rowlock_agent_restarts_total", Help: "How often an agent, or one of its loops, went down and had to be started again.",
		}, labels),
	}
	for _, c := range []prometheus.Collector{m.running, m.restarts} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *Metrics) agentMetrics() *agentMetrics {
	if m == nil {
		return nil
	}
	return m.agents
}

// Report is told how an agent's loops fare, and shows it in metrics and health checks.
type Report struct {
	agent   string
	parts   *health.Parts
	metrics *agentMetrics

	mu sync.Mutex
	up map[string]bool
}

// Up tells that a loop runs.
func (r *Report) Up(loop string) {
	r.parts.Set(r.name(loop), false)
	r.count(loop, true, nil)
}

// Down tells that a loop does not run, and why; nil: it is not to run any more.
func (r *Report) Down(loop string, err error) {
	r.parts.Set(r.name(loop), err != nil)
	r.count(loop, false, err)
}

func (r *Report) name(loop string) string {
	if loop == "" {
		return r.agent
	}
	return r.agent + "/" + loop
}

func (r *Report) count(loop string, up bool, err error) {
	if r.metrics == nil {
		return
	}
	r.mu.Lock()
	was := r.up[loop]
	if r.up == nil {
		r.up = map[string]bool{}
	}
	r.up[loop] = up
	r.mu.Unlock()
	switch {
	case up && !was:
		r.metrics.running.WithLabelValues(r.agent, loop).Inc()
	case !up && was:
		r.metrics.running.WithLabelValues(r.agent, loop).Dec()
	}
	if err != nil {
		r.metrics.restarts.WithLabelValues(r.agent, loop).Inc()
	}
}
