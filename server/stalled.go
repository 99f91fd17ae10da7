package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// stallable is a listener whose connections know when a client takes no byte any more. HTTP/2's own bound
// (WriteByteTimeout) sets and clears a timer with each write, which was a fiftieth of a get.
type stallable struct {
	net.Listener
	after time.Duration
}

// Accept implements net.Listener.
func (l stallable) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stallableConn{Conn: c, after: l.after}, nil
}

// stallableConn fails a write for which no room comes up within one to two times after, once it is bound. A record of TLS is
// one write. It is for HTTP/2 only: who is at the other end of an upgraded connection may look away for long.
type stallableConn struct {
	net.Conn
	after time.Duration
	bound atomic.Bool
	until time.Time // of its deadline; TLS has one writer at a time
}

// Write implements net.Conn.
func (c *stallableConn) Write(p []byte) (int, error) {
	if c.bound.Load() {
		if now := time.Now(); c.until.Sub(now) < c.after {
			c.until = now.Add(2 * c.after)
			if err := c.Conn.SetWriteDeadline(c.until); err != nil {
				return 0, err
			}
		}
	}
	return c.Conn.Write(p)
}

// SetWriteDeadline implements net.Conn. Who sets one, as TLS does for its last words, is believed.
func (c *stallableConn) SetWriteDeadline(t time.Time) error {
	c.bound.Store(false)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *stallableConn) SetDeadline(t time.Time) error {
	c.bound.Store(false)
	return c.Conn.SetDeadline(t)
}

// boundStalls has connections of HTTP/2 fail writes that stall.
func boundStalls(s *http.Server) {
	serve := s.TLSNextProto["h2"]
	s.TLSNextProto["h2"] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		if under, ok := c.NetConn().(*stallableConn); ok {
			under.bound.Store(true)
		}
		serve(hs, c, h)
	}
}
