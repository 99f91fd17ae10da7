package join

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/certificate"
)

// Series of kubelets; their names are as uneven there.
var (
	clientLife = prometheus.GaugeOpts{
		Name: "kubelet_certificate_manager_client_ttl_seconds",
		Help: "[ALPHA] Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds until certificate expiry " +
			"(negative if already expired). If client certificate is invalid or unused, the value will be +INF.",
	}
	servingLife = prometheus.GaugeOpts{
		Name: "kubelet_certificate_manager_server_ttl_seconds",
		Help: "[ALPHA] Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until certificate " +
			"expiry (negative if already expired). If serving certificate is invalid or unused, the value will be +INF.",
	}
)

// count has a series shown.
func (m *Member) count(c prometheus.Collector) {
	if m.cfg.Metrics != nil {
		m.cfg.Metrics.MustRegister(c)
	}
}

// countDown shows how long a certificate is still good.
func (m *Member) countDown(what prometheus.GaugeOpts, manager certificate.Manager) {
	m.count(prometheus.NewGaugeFunc(what, func() float64 {
		if c := manager.Current(); c != nil && c.Leaf != nil {
			return math.Trunc(time.Until(c.Leaf.NotAfter).Seconds())
		}
		return math.Inf(1)
	}))
}

func (m *Member) clientFailures() certificate.Counter {
	return m.failures("kubelet_certificate_manager_client_expiration_renew_errors")
}

func (m *Member) servingFailures() certificate.Counter {
	return m.failures("kubelet_server_expiration_renew_errors")
}

func (m *Member) failures(name string) certificate.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: "[ALPHA] Counter of certificate renewal errors."})
	m.count(c)
	return c
}

// rotations are how long serving certificates lived before they were renewed.
func (m *Member) rotations() certificate.Histogram {
	const minute, hour, day = 60, 3600, 86400
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "kubelet_certificate_manager_server_rotation_seconds",
		Help:    "[ALPHA] Histogram of the number of seconds the previous certificate lived before being rotated.",
		Buckets: []float64{minute, hour, 4 * hour, day, 7 * day, 30 * day, 90 * day, 180 * day, 360 * day, 4 * 360 * day},
	})
	m.count(h)
	return h
}
