package postgres

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a Database and Postgres and does something once to the request that holds marker.
type proxy struct {
	url    string
	target string

	mu      sync.Mutex
	marker  []byte
	onMatch func(client, server net.Conn, request []byte)
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: u.Host}
	u.Host = l.Addr().String()
	p.url = u.String()
	var all sync.WaitGroup
	var conns sync.Map
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(client, nil)
			all.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		all.Wait()
	})
	return p
}

// once arms the proxy.
func (p *proxy) once(marker string, onMatch func(client, server net.Conn, request []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marker, p.onMatch = []byte(marker), onMatch
}

func (p *proxy) match(request []byte) func(client, server net.Conn, request []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.onMatch == nil || !bytes.Contains(request, p.marker) {
		return nil
	}
	f := p.onMatch
	p.onMatch = nil
	return f
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	held := make(chan struct{}) // closed when answers may flow no more
	go func() {
		_, _ = io.Copy(gate{client, held}, server)
		_ = client.Close()
	}()
	buf := make([]byte, 1<<20)
	for {
		n, err := client.Read(buf)
		if err != nil {
			_ = server.Close()
			return
		}
		if f := p.match(buf[:n]); f != nil {
			close(held)
			f(client, server, bytes.Clone(buf[:n]))
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// gate swallows what comes after it was closed.
type gate struct {
	net.Conn
	closed chan struct{}
}

func (g gate) Write(b []byte) (int, error) {
	select {
	case <-g.closed:
		return len(b), nil
	default:
		return g.Conn.Write(b)
	}
}
