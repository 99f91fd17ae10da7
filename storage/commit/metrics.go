package commit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what committers do. One value may serve many of them.
type Metrics struct {
	duration *prometheus.HistogramVec
	ops      prometheus.Histogram
	busy     prometheus.Counter
}

// NewMetrics registers the series of committers.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "storage_commit_duration_seconds",
			Help:    "Time that one commit of gathered writes took at the database.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
		}, []string{"outcome"}),
		ops: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "storage_commit_writes",
			Help:    "Writes that one commit carried.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		busy: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "storage_commit_refused_total",
			Help: "Writes refused because too many were waiting or the store was closed.",
		}),
	}
	reg.MustRegister(m.duration, m.ops, m.busy)
	return m
}

func (m *Metrics) committed(ops int, took time.Duration, err error) {
	if m == nil {
		return
	}
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.duration.WithLabelValues(outcome).Observe(took.Seconds())
	m.ops.Observe(float64(ops))
}

func (m *Metrics) refused() {
	if m != nil {
		m.busy.Inc()
	}
}
