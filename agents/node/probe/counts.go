package probe

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
)

// counts are the kubelet's; a nil one counts nothing.
type counts struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newCounts(r prometheus.Registerer) *counts {
	if r == nil {
		return nil
	}
	c := &counts{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prober_probe_total",
			Help: "Probes of containers by kind and result.",
		}, []string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "prober_probe_duration_seconds",
			Help: "How long probes took that succeeded.",
		}, []string{"probe_type", "container", "pod", "namespace"}),
	}
	r.MustRegister(c.total, c.duration)
	return c
}

func (c *counts) add(t *task, r results.Result, took time.Duration) {
	if c == nil {
		return
	}
	pod, result := t.pod.spec, "failed"
	if r == results.Success {
		result = "successful"
		c.duration.WithLabelValues(t.kind.String(), t.container.Name, pod.Name, pod.Namespace).Observe(took.Seconds())
	}
	c.total.WithLabelValues(t.kind.String(), result, t.container.Name, pod.Name, pod.Namespace, string(pod.UID)).Inc()
}

// forget: what is gone is counted no longer.
func (c *counts) forget(t *task) {
	if c == nil {
		return
	}
	pod := t.pod.spec
	c.duration.DeleteLabelValues(t.kind.String(), t.container.Name, pod.Name, pod.Namespace)
	for _, result := range []string{"failed", "successful"} {
		c.total.DeleteLabelValues(t.kind.String(), result, t.container.Name, pod.Name, pod.Namespace, string(pod.UID))
	}
}
