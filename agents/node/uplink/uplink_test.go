package uplink_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/agents/node/uplink"
	"github.com/rowlock-io/rowlock/tunnel"
)

// cluster is a server that takes the tunnel of the node "one".
type cluster struct {
	*httptest.Server
	sessions chan *tunnel.Session
	refuse   atomic.Int32 // so many first
	asked    atomic.Int32
	shown    sync.Map // by session: the certificate of the node that it was made with
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{sessions: make(chan *tunnel.Session)}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c.asked.Add(1)
		if req.URL.Path != "/clusters/mine"+tunnel.Path("one") || c.refuse.Add(-1) >= 0 {
			http.NotFound(w, req)
			return
		}
		if !tunnel.Asked(w, req) {
			return
		}
		conn, err := tunnel.Upgrade(w, req)
		if err != nil {
			t.Error(err)
			return
		}
		session, err := tunnel.Accept(conn)
		if err != nil {
			t.Error(err)
			return
		}
		defer session.Close()
		if len(req.TLS.PeerCertificates) > 0 {
			c.shown.Store(session, req.TLS.PeerCertificates[0])
		}
		select {
		case c.sessions <- session:
			<-session.Done()
		case <-t.Context().Done():
		}
	}))
	c.EnableHTTP2 = true                                   // which the agent must not speak here
	c.TLS = &tls.Config{ClientAuth: tls.RequestClientCert} //nolint:gosec // a test's
	c.StartTLS()
	t.Cleanup(c.Close)
	return c
}

// run runs the node's uplink, which with makes another one; its API echoes.
func (c *cluster) run(t *testing.T, with ...func(*uplink.Config)) (stop func()) {
	t.Helper()
	cfg := uplink.Config{
		Node: "one", Log: slog.New(slog.DiscardHandler),
		API: &rest.Config{
			Host:            c.URL + "/clusters/mine",
			TLSClientConfig: rest.TLSClientConfig{CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})},
		},
		Dial: func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				_, _ = io.Copy(far, far)
			}()
			return near, nil
		},
	}
	for _, f := range with {
		f(&cfg)
	}
	up, err := uplink.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { up.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// works tells whether the node answers over a connection.
func works(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

func open(t *testing.T, s *tunnel.Session) net.Conn {
	t.Helper()
	conn, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	works(t, conn)
	return conn
}

// The tunnel is made again when it was refused, when it was cut, and when the server is about to end: then beside the old one.
func TestTunnelIsMadeAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.refuse.Store(1)
	stop := c.run(t)
	first := <-c.sessions
	if asked := c.asked.Load(); asked != 2 {
		t.Errorf("asked %d times, want a refusal and a tunnel", asked)
	}
	open(t, first)
	first.Close()
	second := <-c.sessions
	running := open(t, second)
	if err := second.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	third := <-c.sessions
	works(t, running)
	open(t, third)
	stop()
	<-second.Done()
	<-third.Done()
}
