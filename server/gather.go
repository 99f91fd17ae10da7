package server

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"sync/atomic"

	"github.com/rowlock-io/rowlock/server/read"
)

// A change that many watch wakes all of them at once, and many of them share a connection. HTTP/2 would flush what the first of
// them writes before the second has come to write: nearly as many records and system calls as there are watchers. So the first
// write of a connection after a watcher has announced an event lets those go first that are ready to run, and what they have to
// say goes out together. Nobody waits for a timer, or for anybody who is not ready.

// gatherer is a listener of such connections.
type gatherer struct{ net.Listener }

// Accept implements net.Listener.
func (g gatherer) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gathering{Conn: c}, nil
}

type gathering struct {
	net.Conn
	announced atomic.Bool
}

// Write implements net.Conn.
func (c *gathering) Write(p []byte) (int, error) {
	if c.announced.Load() && c.announced.Swap(false) {
		runtime.Gosched()
	}
	return c.Conn.Write(p)
}

// gather is an http.Server's ConnContext.
func gather(ctx context.Context, c net.Conn) context.Context {
	t, ok := c.(*tls.Conn)
	if !ok {
		return ctx
	}
	under, ok := t.NetConn().(*stallableConn)
	if !ok {
		return ctx
	}
	if g, ok := under.Conn.(*gathering); ok {
		return read.WithAnnounced(ctx, &g.announced)
	}
	return ctx
}
