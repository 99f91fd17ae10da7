package topology

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// balancer passes TCP connections on to backends in turn, and past those that take none.
type balancer struct {
	listener net.Listener
	backends []string
	running  sync.WaitGroup

	mu     sync.Mutex
	next   int
	conns  map[net.Conn]bool
	served map[string]int // connections that each backend got
	closed bool
}

// newBalancer starts a balancer on a free port of 127.0.0.1; it ends with the test.
func newBalancer(t testing.TB, backends ...string) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: listener, backends: backends, conns: map[net.Conn]bool{}, served: map[string]int{}}
	b.running.Go(b.accept)
	t.Cleanup(b.close)
	return b
}

// addr is the balancer's address.
func (b *balancer) addr() string { return b.listener.Addr().String() }

// connections tells how many connections each backend has got so far.
func (b *balancer) connections() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	served := make(map[string]int, len(b.served))
	for backend, n := range b.served {
		served[backend] = n
	}
	return served
}

func (b *balancer) close() {
	b.mu.Lock()
	b.closed = true
	for conn := range b.conns {
		conn.Close()
	}
	b.mu.Unlock()
	b.listener.Close()
	b.running.Wait()
}

func (b *balancer) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.serve(client) })
	}
}

func (b *balancer) serve(client net.Conn) {
	defer client.Close()
	server, err := b.dial()
	if err != nil {
		return // the client finds its connection closed
	}
	defer server.Close()
	if !b.keep(client, server) {
		return
	}
	defer b.drop(client, server)
	var both sync.WaitGroup
	both.Go(func() { b.copy(server, client) })
	both.Go(func() { b.copy(client, server) })
	both.Wait()
}

// copy passes bytes on until either side ends, and then ends both: HTTP/2 knows no half of a connection.
func (b *balancer) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from) // how a connection ended is for its ends to judge
	to.Close()
	from.Close()
}

// dial connects to the next backend that takes connections.
func (b *balancer) dial() (net.Conn, error) {
	err := errors.New("no backends")
	for range b.backends {
		b.mu.Lock()
		backend := b.backends[b.next%len(b.backends)]
		b.next++
		b.mu.Unlock()
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", backend, time.Second); err == nil {
			b.mu.Lock()
			b.served[backend]++
			b.mu.Unlock()
			return conn, nil
		}
	}
	return nil, err
}

// keep notes open connections, unless the balancer is closed.
func (b *balancer) keep(conns ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	for _, conn := range conns {
		b.conns[conn] = true
	}
	return true
}

func (b *balancer) drop(conns ...net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range conns {
		delete(b.conns, conn)
	}
}
