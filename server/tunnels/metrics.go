package tunnels

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowlock-io/rowlock/tunnel"
)

// Metrics are those of the tunnels of all clusters of a process.
type Metrics struct {
	open    prometheus.Gauge
	made    prometheus.Counter
	bytes   *prometheus.CounterVec
	dials   *prometheus.CounterVec
	relays  *prometheus.CounterVec
	streams *prometheus.GaugeVec
}

// NewMetrics registers the series.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tunnels_open", Help: "Tunnels that nodes have to this process, with old ones that go on for their streams.",
		}),
		made: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tunnels_made_total", Help: "Tunnels that nodes have made to this process.",
		}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tunnels_bytes_total", Help: "Bytes that were sent to nodes and received from them over tunnels that nodes have to this process.",
		}, []string{"direction"}),
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tunnels_dials_total", Help: "Connections over tunnels that requests to this process asked for, to the API of a node or to a pod, over whichever server's tunnel. The result is ok, full (too many), refused (no pod of the node's), unreachable (from the node) or lost (nobody has the tunnel).",
		}, []string{"to", "result"}),
		relays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tunnels_relayed_dials_total", Help: "Connections over tunnels of this process that other servers asked for.",
		}, []string{"to", "result"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tunnels_streams", Help: "Connections over tunnels that requests to this process have.",
		}, []string{"to"}),
	}
	for _, c := range []prometheus.Collector{m.open, m.made, m.bytes, m.dials, m.relays, m.streams} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, tunnel.ErrFull):
		return "full"
	case errors.Is(err, tunnel.ErrRefused):
		return "refused"
	case errors.Is(err, tunnel.ErrNode):
		return "unreachable"
	}
	return "lost"
}

// dialled counts what a request asked for.
func (m *Metrics) dialled(to target, err error) {
	if m != nil {
		m.dials.WithLabelValues(to.name(), result(err)).Inc()
	}
}

// relayed counts what another server asked for.
func (m *Metrics) relayed(to target, err error) {
	if m != nil {
		m.relays.WithLabelValues(to.name(), result(err)).Inc()
	}
}

// stream counts a connection for as long as it is open.
func (m *Metrics) stream(conn net.Conn, to target) net.Conn {
	if m == nil {
		return conn
	}
	open := m.streams.WithLabelValues(to.name())
	open.Inc()
	return &countedStream{Conn: conn, closed: sync.OnceFunc(open.Dec)}
}

type countedStream struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *countedStream) Close() error {
	c.closed()
	return c.Conn.Close()
}

// tunnel counts a tunnel until ended is called, and what goes over it.
func (m *Metrics) tunnel(conn net.Conn) (counted net.Conn, ended func()) {
	if m == nil {
		return conn, func() {}
	}
	m.made.Inc()
	m.open.Inc()
	return &countedConn{Conn: conn, sent: m.bytes.WithLabelValues("sent"), received: m.bytes.WithLabelValues("received")}, m.open.Dec
}

type countedConn struct {
	net.Conn
	sent, received prometheus.Counter
}

// Read implements net.Conn.
func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(float64(n))
	return n, err
}

// Write implements net.Conn.
func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(float64(n))
	return n, err
}
