package server_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// TestOversizeRequests sends what is too large for any client to mean it. Bodies are in TestTooMuch.
func TestOversizeRequests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		request servertest.Request
		status  int
	}{
		"header": {servertest.Request{Method: "GET", Path: "/api", Header: http.Header{"X-Long": {strings.Repeat("x", 2<<20)}}}, 431},
		"path":   {servertest.Request{Method: "GET", Path: "/api/" + strings.Repeat("x", 2<<20)}, 431},
		"query":  {servertest.Request{Method: "GET", Path: "/api/v1/pods?" + strings.Repeat("limit=1&", 1<<18)}, 431},
		// A compressed body is not unpacked, however small it claims to be.
		"compressed": {servertest.Request{
			Method: "POST", Path: "/api/v1/namespaces/default/configmaps", Body: "\x1f\x8b\x08\x00",
			Header: http.Header{"Content-Encoding": {"gzip"}, "Content-Type": {"application/json"}}, Token: servertest.AdminToken,
		}, 400},
	} {
		resp, err := wire.Do(t.Context(), shared.URL, c.request)
		if err != nil { // the server may hang up before it was sent all of it
			t.Logf("%s: %v", name, err)
		} else if resp.Status != c.status {
			t.Errorf("%s: %d, want %d", name, resp.Status, c.status)
		}
	}
}

// TestPathEscapesInNames names objects by what a path, a log or a store could take for something else.
func TestPathEscapesInNames(t *testing.T) {
	t.Parallel()
	const root = "/api/v1/namespaces/default/configmaps"
	long := strings.Repeat("x", 10<<10)
	for _, path := range []string{
		root + "/..", root + "/%2e%2e", root + "/%2E", root + "/a%2fb", root + "/..%2f..%2fsecrets", root + "/%00", root + "/a%0ab", root + "/%5c..%5c",
		"/api/v1/namespaces/../configmaps/kube-root-ca.crt", "/api/v1/namespaces/%2e%2e/configmaps/kube-root-ca.crt", "/api/v1/namespaces/default%2fx/configmaps/a",
		"/api/v1/namespaces/kube-system/../default/configmaps/kube-root-ca.crt", root + "//x", root + "/" + long,
	} {
		resp := wire.Send(t, shared.URL, servertest.Request{Method: "GET", Path: path, Token: servertest.AdminToken})
		if resp.Status != 404 && resp.Status != 400 && resp.Status != 405 && resp.Status != 301 {
			t.Errorf("GET %.80s: %d %.200s", path, resp.Status, resp.Body)
		}
	}
	for _, name := range []string{".", "..", "a/b", "../secrets/a", "%2e%2e", "a%2fb", "", " ", "a\\u0000", "a\\nb", long} {
		resp := wire.Send(t, shared.URL, servertest.Request{
			Method: "POST", Path: root, Token: servertest.AdminToken, Header: http.Header{"Content-Type": {"application/json"}},
			Body: `{"metadata":{"name":"` + name + `"}}`,
		})
		if resp.Status != 422 && resp.Status != 400 {
			t.Errorf("an object named %.80q: %d %.200s", name, resp.Status, resp.Body)
		}
	}
}

// closes tells that the server hangs up on a connection that a test has stopped using.
func closes(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

// TestHalfOpenRequests opens connections and does not finish what it began.
func TestHalfOpenRequests(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{HeaderTimeout: 500 * time.Millisecond})
	address := strings.TrimPrefix(s.URL, "https://")
	dial := func(t *testing.T) net.Conn {
		t.Helper()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	for name, say := range map[string]func(t *testing.T) net.Conn{
		"no handshake": dial,
		"half a handshake": func(t *testing.T) net.Conn {
			conn := dial(t)
			_, _ = conn.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc}) // of a ClientHello that goes on
			return conn
		},
		"no request": func(t *testing.T) net.Conn { return tls.Client(dial(t), &tls.Config{InsecureSkipVerify: true}) },
		"half a header": func(t *testing.T) net.Conn {
			conn := tls.Client(dial(t), &tls.Config{InsecureSkipVerify: true})
			_, _ = fmt.Fprintf(conn, "GET /api HTTP/1.1\r\nHost: x\r\nX-")
			return conn
		},
		"a body nobody wants": func(t *testing.T) net.Conn {
			conn := tls.Client(dial(t), &tls.Config{InsecureSkipVerify: true})
			_, _ = fmt.Fprintf(conn, "POST /api/v1/nodes HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
			return conn
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := say(t)
			if c, ok := conn.(*tls.Conn); ok && name == "no request" {
				_ = c.HandshakeContext(t.Context())
			}
			closes(t, conn)
		})
	}
}

// framer speaks HTTP/2 by the frame.
func framer(t *testing.T, s *servertest.Server) (net.Conn, *http2.Framer) {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return conn, f
}

func headers(token string) []byte {
	var block strings.Builder
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/api/v1/pods"}, {"authorization", "Bearer " + token}} {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	return []byte(block.String())
}

// TestRapidReset begins requests and takes them back at once, faster than they are served (CVE-2023-44487).
func TestRapidReset(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	conn, f := framer(t, s)
	go func() {
		block := headers(servertest.AdminToken)
		for id := uint32(1); id < 400_000; id += 2 {
			if f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true}) != nil ||
				f.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
				return
			}
		}
		_ = conn.Close()
	}()
	client := s.Client(t, servertest.Default)
	for range 20 { // others are served meanwhile
		if _, err := client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.Copy(io.Discard, conn)
	await(t, "no request has a seat", func() bool { return !executing(t, s, "/api/v1/pods") })
}

// TestContinuationFlood sends a header that does not end.
func TestContinuationFlood(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	conn, f := framer(t, s)
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("x")}); err != nil {
		t.Fatal(err)
	}
	var block strings.Builder
	e := hpack.NewEncoder(&block)
	_ = e.WriteField(hpack.HeaderField{Name: "x-flood", Value: strings.Repeat("y", 10<<10), Sensitive: true})
	sent := 0
	for ; sent < 1<<30; sent += block.Len() {
		if f.WriteContinuation(1, false, []byte(block.String())) != nil {
			break
		}
	}
	if sent >= 1<<30 {
		t.Error("the server took a gigabyte of one header")
	}
}
