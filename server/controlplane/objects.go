package controlplane

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/rowlock-io/rowlock/server/fairness"
)

// measurements serves the series of the process, and those of what there is in this cluster.
func (c *ControlPlane) measurements() http.Handler {
	own := prometheus.NewRegistry()
	own.MustRegister(fairness.Objects(c.backend.Cache))
	all := promhttp.InstrumentMetricHandler(prometheus.DefaultRegisterer, promhttp.HandlerFor(
		prometheus.Gatherers{legacyregistry.DefaultGatherer, own}, promhttp.HandlerOpts{ProcessStartTime: legacyregistry.GetProcessStart()}))
	reset := legacyregistry.HandlerWithReset()
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodDelete {
			reset.ServeHTTP(w, req)
			return
		}
		all.ServeHTTP(w, req)
	})
}
