package harness

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Balancer passes TCP connections on to backends in turn, and past those that take none.
type Balancer struct {
	listener net.Listener
	backends []string
	running  sync.WaitGroup

	mu     sync.Mutex
	next   int
	conns  map[net.Conn]string // open ones, with the backend
	served map[string]int      // connections that each backend got
	sick   map[string]bool
	closed bool
}

// NewBalancer starts a balancer on a free port of 127.0.0.1; it ends with the test.
func NewBalancer(t testing.TB, backends ...string) *Balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &Balancer{listener: listener, backends: backends, conns: map[net.Conn]string{}, served: map[string]int{}, sick: map[string]bool{}}
	b.running.Go(b.accept)
	t.Cleanup(b.close)
	return b
}

// Addr is the balancer's address.
func (b *Balancer) Addr() string { return b.listener.Addr().String() }

// Connections tells how many connections each backend has got so far.
func (b *Balancer) Connections() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	served := make(map[string]int, len(b.served))
	for backend, n := range b.served {
		served[backend] = n
	}
	return served
}

// Sick says whether a backend is to be passed over. It loses the connections that it has.
func (b *Balancer) Sick(backend string, sick bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sick[backend] = sick
	for conn, to := range b.conns {
		if sick && to == backend {
			conn.Close()
		}
	}
}

func (b *Balancer) close() {
	b.mu.Lock()
	b.closed = true
	for conn := range b.conns {
		conn.Close()
	}
	b.mu.Unlock()
	b.listener.Close()
	b.running.Wait()
}

func (b *Balancer) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.serve(client) })
	}
}

func (b *Balancer) serve(client net.Conn) {
	defer client.Close()
	server, backend, err := b.dial()
	if err != nil {
		return // the client finds its connection closed
	}
	defer server.Close()
	if !b.keep(backend, client, server) {
		return
	}
	defer b.drop(client, server)
	var both sync.WaitGroup
	both.Go(func() { b.copy(server, client) })
	both.Go(func() { b.copy(client, server) })
	both.Wait()
}

// copy passes bytes on until either side ends, and then ends both: HTTP/2 knows no half of a connection.
func (b *Balancer) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from) // how a connection ended is for its ends to judge
	to.Close()
	from.Close()
}

// dial connects to the next backend that takes connections.
func (b *Balancer) dial() (net.Conn, string, error) {
	err := errors.New("no backends")
	for range b.backends {
		b.mu.Lock()
		backend := b.backends[b.next%len(b.backends)]
		b.next++
		sick := b.sick[backend]
		b.mu.Unlock()
		if sick {
			continue
		}
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", backend, time.Second); err == nil {
			b.mu.Lock()
			b.served[backend]++
			b.mu.Unlock()
			return conn, backend, nil
		}
	}
	return nil, "", err
}

// keep notes open connections, unless the balancer is closed.
func (b *Balancer) keep(backend string, conns ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	for _, conn := range conns {
		b.conns[conn] = backend
	}
	return true
}

func (b *Balancer) drop(conns ...net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range conns {
		delete(b.conns, conn)
	}
}
