package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/rest"
)

// listen counts the connections to a server on loopback.
func listen(t *testing.T) (address string, count *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	count = &atomic.Int32{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			c.Close()
		}
	}()
	return l.Addr().String(), count
}

func TestDial(t *testing.T) {
	t.Parallel()
	address, count := listen(t)
	_, port, _ := net.SplitHostPort(address)
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "", "::ffff:127.0.0.1", "2130706433", "0x7f.1", "127.1"} {
		c, err := NewDialer(Config{}).DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			c.Close()
			t.Errorf("%q was connected to", host)
		}
	}
	if n := count.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	c, err := NewDialer(Config{AllowLoopback: true}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := NewDialer(Config{AllowLoopback: true}).DialContext(t.Context(), "unix", "/run/some.sock"); !errors.Is(err, ErrAddress) {
		t.Errorf("a socket of the machine: %v", err)
	}
}

// resolver answers questions for addresses of IPv4 with those that next returns.
func newDNS(t *testing.T, next func() [4]byte) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: next()},
				}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// TestNameThatResolvesTwiceDoesNotReachLoopback: a check of the name's address before the dial would have been fooled.
func TestNameThatResolvesTwiceDoesNotReachLoopback(t *testing.T) {
	t.Parallel()
	address, count := listen(t)
	_, port, _ := net.SplitHostPort(address)
	for _, second := range [][4]byte{{127, 0, 0, 1}, {169, 254, 169, 254}, {0, 0, 0, 0}} {
		asked := 0
		d := NewDialer(Config{})
		d.dialer.Resolver = newDNS(t, func() [4]byte {
			if asked++; asked == 1 {
				return [4]byte{203, 0, 113, 9}
			}
			return second
		})
		first, err := d.dialer.Resolver.LookupNetIP(t.Context(), "ip4", "rebind.example.com.")
		if err != nil || d.cfg.Check(first[0].Unmap()) != nil {
			t.Fatalf("first: %v, %v", first, err)
		}
		_, err = d.DialContext(t.Context(), "tcp4", net.JoinHostPort("rebind.example.com.", port))
		if !errors.Is(err, ErrAddress) {
			t.Errorf("second is %v: %v", second, err)
		}
		if asked != 2 {
			t.Errorf("the name was resolved %d times", asked)
		}
	}
	if n := count.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// webhooks makes a client configuration as upstream does for a webhook at a URL.
func webhooks(t *testing.T, d *Dialer, self func() (*rest.Config, error)) webhook.AuthenticationInfoResolver {
	t.Helper()
	base, err := webhook.NewDefaultAuthenticationInfoResolver("")
	if err != nil {
		t.Fatal(err)
	}
	return d.Webhooks(self, nil)(base)
}

func TestWebhookRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/stolen" {
			followed.Store(true)
			return
		}
		http.Redirect(w, req, "/stolen", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	cfg, err := webhooks(t, NewDialer(Config{AllowLoopback: true}), nil).ClientConfigFor("any:443")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.BearerToken = server.URL, "ours"
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Post(server.URL+"/", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect || followed.Load() {
		t.Errorf("status %d, followed: %v", resp.StatusCode, followed.Load())
	}
}

func TestWebhooksAreNotOnLoopback(t *testing.T) {
	t.Parallel()
	address, count := listen(t)
	self := &rest.Config{Host: "self"}
	resolver := webhooks(t, NewDialer(Config{}), func() (*rest.Config, error) { return self, nil })
	byURL, err := resolver.ClientConfigFor(address)
	if err != nil {
		t.Fatal(err)
	}
	byService, err := resolver.ClientConfigForService("hook", "default", 443)
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []*rest.Config{byURL, byService} {
		if _, err := cfg.Dial(t.Context(), "tcp", address); !errors.Is(err, ErrAddress) {
			t.Errorf("dial: %v", err)
		}
		if proxy, err := cfg.Proxy(httptest.NewRequest(http.MethodPost, "https://hook.example.com/", nil)); proxy != nil || err != nil {
			t.Errorf("proxy: %v, %v", proxy, err)
		}
	}
	if n := count.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	for _, get := range []func() (*rest.Config, error){
		func() (*rest.Config, error) { return resolver.ClientConfigFor("kubernetes.default.svc:443") },
		func() (*rest.Config, error) { return resolver.ClientConfigForService("kubernetes", "default", 443) },
	} {
		if cfg, err := get(); err != nil || cfg != self {
			t.Errorf("the server itself: %v, %v", cfg, err)
		}
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "0123456789") }))
	defer server.Close()
	for bound, want := range map[int64]error{9: ErrTooLarge, 10: nil, 11: nil} {
		client := &http.Client{Transport: Bounded(http.DefaultTransport, bound)}
		resp, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		var body strings.Builder
		buf := make([]byte, 4)
		for err == nil {
			var n int
			n, err = resp.Body.Read(buf)
			body.Write(buf[:n])
		}
		resp.Body.Close()
		if want == nil && body.String() != "0123456789" || want != nil && !errors.Is(err, want) {
			t.Errorf("bound %d: %q, %v", bound, body.String(), err)
		}
	}
}
