package uplink_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/agents/node/uplink"
)

// selfSigned is a certificate and its key, PEM.
func selfSigned(t *testing.T, serial int64, from, to time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: from, NotAfter: to, DNSNames: []string{"rowlock.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// When the node's certificate was renewed, a tunnel is made with the new one, and what goes over the old one goes on.
func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "client.pem")
	renew := func(serial int64) {
		t.Helper()
		cert, key := selfSigned(t, serial, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		if err := os.WriteFile(path+".new", slices.Concat(cert, key), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	renew(1)
	c := newCluster(t)
	registry := prometheus.NewRegistry()
	c.run(t, func(cfg *uplink.Config) {
		cfg.API.CertFile, cfg.API.KeyFile = path, path
		cfg.Look, cfg.Metrics = 10*time.Millisecond, registry
	})
	first := <-c.sessions
	running := open(t, first)
	renew(2)
	second := <-c.sessions
	works(t, running)
	open(t, second)
	for i, s := range []any{first, second} {
		cert, _ := c.shown.Load(s)
		if serial := cert.(*x509.Certificate).SerialNumber.Int64(); serial != int64(i+1) {
			t.Errorf("tunnel %d was made with certificate %d", i+1, serial)
		}
	}
	want := `
# HELP rowlock_node_tunnel_dials_total Connections for tunnels that the node has tried to make, by result: made, refused by the server, or failed.
# TYPE rowlock_node_tunnel_dials_total counter
rowlock_node_tunnel_dials_total{result="made"} 2
# HELP rowlock_node_tunnels Tunnels to servers that the node has: more than one while an old one goes on for its streams.
# TYPE rowlock_node_tunnels gauge
rowlock_node_tunnels 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// A node whose clock is wrong, so that the server's certificate is not valid yet, comes when it is right.
func TestClockThatIsOff(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var asked atomic.Int32
	early, earlyKey := selfSigned(t, 1, time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))
	good, goodKey := selfSigned(t, 2, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	pairs := [2]tls.Certificate{}
	for i, pem := range [][2][]byte{{early, earlyKey}, {good, goodKey}} {
		var err error
		if pairs[i], err = tls.X509KeyPair(pem[0], pem[1]); err != nil {
			t.Fatal(err)
		}
	}
	front := httptest.NewUnstartedServer(c.Config.Handler)
	front.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if asked.Add(1) == 1 {
			return &pairs[0], nil
		}
		return &pairs[1], nil
	}}
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	front.StartTLS()
	t.Cleanup(front.Close)
	c.run(t, func(cfg *uplink.Config) {
		cfg.API.Host = "https://rowlock.test/clusters/mine" // a name, for which the function is asked
		cfg.API.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, front.Listener.Addr().String())
		}
		cfg.API.CAData = slices.Concat(early, good)
	})
	open(t, <-c.sessions)
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// Nodes that have lost their server do not come back all at once, and not at the same times again and again.
func TestStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const nodes, outage = 1000, 5 * time.Minute
		var mu sync.Mutex
		var dials []time.Duration
		last := map[int]time.Duration{}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), outage)
		defer cancel()
		var running sync.WaitGroup
		for i := range nodes {
			up, err := uplink.New(uplink.Config{Node: "one", Log: slog.New(slog.DiscardHandler), API: &rest.Config{
				Host: "https://rowlock.test:6443",
				Dial: func(context.Context, string, string) (net.Conn, error) {
					mu.Lock()
					defer mu.Unlock()
					last[i] = time.Since(began)
					dials = append(dials, last[i])
					return nil, errors.New("connection refused")
				},
			}})
			if err != nil {
				t.Fatal(err)
			}
			running.Go(func() { up.Run(ctx) })
		}
		running.Wait()
		within := map[time.Duration]int{} // tenths of a second
		for _, at := range dials {
			within[at/(100*time.Millisecond)]++
		}
		for tenth, n := range within {
			at := tenth * 100 * time.Millisecond
			limit := nodes // they have just lost it
			switch {
			case at > time.Minute:
				limit = nodes / 50
			case at > 0:
				limit = nodes / 3
			}
			if n > limit {
				t.Errorf("%d of %d dialled within a tenth of a second, after %s", n, nodes, at)
			}
		}
		if n := len(dials); n > nodes*20 {
			t.Errorf("%d dialled %d times in %s", nodes, n, outage)
		}
		for i, at := range last {
			if at < outage-46*time.Second {
				t.Errorf("node %d has not dialled since %s", i, at)
			}
		}
	})
}

// forwarder is a proxy for CONNECT that leads to one address, whatever is asked for.
func forwarder(t *testing.T, to string) (proxy *httptest.Server, asked *atomic.Pointer[string]) {
	t.Helper()
	asked = &atomic.Pointer[string]{}
	proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodConnect {
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return
		}
		asked.Store(&req.Host)
		var dialer net.Dialer
		far, err := dialer.DialContext(req.Context(), "tcp", to)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		near, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			defer near.Close()
			_, _ = io.Copy(near, far)
		}()
		defer far.Close()
		_, _ = io.Copy(far, near)
	}))
	t.Cleanup(proxy.Close)
	return proxy, asked
}

// The agent goes through the proxy that its environment names, unless that says not to.
func TestProxy(t *testing.T) {
	t.Parallel()
	cert, key := selfSigned(t, 1, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if address := os.Getenv("UPLINK_TEST_SERVER"); address != "" { // this is the agent
		up, err := uplink.New(uplink.Config{
			Node: "one", Log: slog.New(slog.DiscardHandler), API: &rest.Config{Host: address, TLSClientConfig: rest.TLSClientConfig{CAFile: os.Getenv("UPLINK_TEST_CA")}},
			Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("none") },
		})
		if err != nil {
			t.Fatal(err)
		}
		up.Run(t.Context()) // until it is killed
		return
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t)
	front := httptest.NewUnstartedServer(c.Config.Handler)
	front.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	front.StartTLS()
	t.Cleanup(front.Close)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := func(env ...string) (stop func()) {
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestProxy$") //nolint:gosec // this test
		cmd.Env = append(os.Environ(), append(env, "UPLINK_TEST_SERVER=https://rowlock.test:6443/clusters/mine", "UPLINK_TEST_CA="+ca)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	through, asked := forwarder(t, front.Listener.Addr().String())
	stop := agent("HTTPS_PROXY="+through.URL, "NO_PROXY=")
	session := <-c.sessions
	if to := asked.Load(); to == nil || *to != "rowlock.test:6443" {
		t.Errorf("the proxy was asked for %v", to)
	}
	if err := session.Leave(t.Context()); err != nil {
		t.Errorf("through a proxy: %v", err)
	}
	again := <-c.sessions
	stop()
	<-session.Done()
	<-again.Done()

	around, asked := forwarder(t, front.Listener.Addr().String())
	stop = agent("HTTPS_PROXY="+around.URL, "NO_PROXY=.test")
	time.Sleep(time.Second) // in which it has dialled, a name that does not exist
	stop()
	if to := asked.Load(); to != nil {
		t.Errorf("the proxy was asked for %s, which the environment excludes", *to)
	}
}
