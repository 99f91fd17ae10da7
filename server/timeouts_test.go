package server_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/servertest"
)

const timedOut = "Timeout: request did not complete within the allotted timeout"

// TestRequestTimeout asks for deadlines.
func TestRequestTimeout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, path string
		status       int
		message      string
	}{
		{"GET", "/api/v1/namespaces/default?timeout=1ns", 504, timedOut},
		{"GET", "/api/v1/namespaces?timeout=1ns", 504, timedOut},
		{"DELETE", "/api/v1/namespaces/default/configmaps/none?timeout=1ns", 504, timedOut},
		{"GET", "/api/v1/namespaces/default?timeout=soon", 400, `invalid timeout specified in the request URL - time: invalid duration "soon"`},
		{"GET", "/api/v1/namespaces/default?timeout=0s", 200, ""},
		{"GET", "/api/v1/namespaces/default?timeout=1000h", 200, ""},
	} {
		resp := wire.Send(t, shared.URL, servertest.Request{Method: c.method, Path: c.path, Token: servertest.AdminToken})
		var status struct{ Message string }
		if err := json.Unmarshal([]byte(resp.Body), &status); err != nil {
			t.Fatalf("%s %s: %v in %s", c.method, c.path, err, resp.Body)
		}
		if resp.Status != c.status || status.Message != c.message {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, resp.Status, status.Message, c.status, c.message)
		}
	}
}

// raw opens a connection on which a test says what it likes.
func raw(t *testing.T, server *servertest.Server, readBuffer int) *tls.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(server.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if readBuffer > 0 {
		if err := conn.(*net.TCPConn).SetReadBuffer(readBuffer); err != nil {
			t.Fatal(err)
		}
	}
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
}

// executing lists the users whose requests have seats.
func executing(t *testing.T, server *servertest.Server, user string) bool {
	t.Helper()
	dump := wire.Send(t, server.URL, servertest.Request{
		Method: "GET", Path: dumps + "dump_requests?includeRequestDetails=1", Token: servertest.AdminToken,
	})
	if dump.Status != http.StatusOK {
		t.Fatalf("%d %s", dump.Status, dump.Body)
	}
	return strings.Contains(dump.Body, user)
}

// TestSlowBodyHoldsNoSeat sends a write whose body does not come, and waits for its end.
func TestSlowBodyHoldsNoSeat(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	letAlice(t, s.Client(t, servertest.Default))
	awaitAlice(t, s)
	conn := raw(t, s, 0)
	_, err := fmt.Fprintf(conn, "POST /api/v1/namespaces/default/configmaps?timeout=2s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", servertest.AliceToken)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the request has a seat", func() bool { return executing(t, s, "alice") })
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var status metav1.Status
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 504 || status.Message != timedOut {
		t.Errorf("%d %q", resp.StatusCode, status.Message)
	}
	await(t, "its seat is free", func() bool { return !executing(t, s, "alice") })
}

// TestSlowReaderHoldsNoSeat asks for more than a connection holds and does not read it.
func TestSlowReaderHoldsNoSeat(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	client := s.Client(t, servertest.Default)
	letAlice(t, client)
	awaitAlice(t, s)
	for i := range 16 {
		big := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("big-%d", i)}, Data: map[string]string{"a": strings.Repeat("x", 1<<20-100)}}
		if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), big, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	conn := raw(t, s, 4096)
	_, err := fmt.Fprintf(conn, "GET /api/v1/configmaps?timeout=2s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", servertest.AliceToken)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the request has a seat", func() bool { return executing(t, s, "alice") })
	await(t, "its seat is free", func() bool { return !executing(t, s, "alice") })
}

func awaitAlice(t *testing.T, s *servertest.Server) {
	t.Helper()
	await(t, "alice may", func() bool {
		return wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/api/v1/nodes", Token: servertest.AliceToken}).Status == 200
	})
}
