package uplink

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowlock-io/rowlock/tunnel"
)

// metrics are a node's own of its tunnel.
type metrics struct {
	open  prometheus.Gauge
	dials *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rowlock_node_tunnels", Help: "Tunnels to servers that the node has: more than one while an old one goes on for its streams.",
		}),
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rowlock_node_tunnel_dials_total", Help: "Connections for tunnels that the node has tried to make, by result: made, refused by the server, or failed.",
		}, []string{"result"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.open, m.dials} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) dialled(err error) {
	var refused *tunnel.StatusError
	switch {
	case err == nil:
		m.dials.WithLabelValues("made").Inc()
	case errors.As(err, &refused):
		m.dials.WithLabelValues("refused").Inc()
	default:
		m.dials.WithLabelValues("failed").Inc()
	}
}
