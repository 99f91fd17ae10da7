package read_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server/routine"

	"github.com/rowlock-io/rowlock/server/read"
)

// TestHTTP2: over TLS and HTTP/2 the bodies are the same, and a watch ends as a stream ends.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	serving, shutDown := context.WithCancel(t.Context())
	c, h := newCluster(t, read.Config{Serving: serving})
	rv := c.fill(t)
	c.big(t, 600)
	_, oracle := c.servers(t, h)
	server := httptest.NewUnstartedServer(c.handler(h))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	client := server.Client()
	client.Transport.(*http.Transport).DisableCompression = true
	get := func(path string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", "test")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.ProtoMajor != 2 || resp.Header.Get(wayHeader) != "bytes" {
			t.Fatalf("%s over %s by %q", path, resp.Proto, resp.Header.Get(wayHeader))
		}
		return resp
	}
	for _, path := range []string{"/api/v1/configmaps", "/api/v1/namespaces/default/configmaps/cm-01", "/api/v1/configmaps?limit=3"} {
		got := readAll(t, get(path).Body)
		want, _ := fetch(t, oracle, path, nil)
		if diff := cmp.Diff(want.Body, got); diff != "" {
			t.Errorf("%s: -HTTP/1.1 upstream +HTTP/2 bytes:\n%.2000s", path, diff)
		}
	}
	path := fmt.Sprintf("/api/v1/configmaps?watch=true&resourceVersion=%d", rv)
	theirs := open(t, oracle, path, map[string]string{"Accept": asJSON})
	resp := get(path)
	c.script(t)
	want := strings.Join(theirs.read(t), "")
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		m, err := resp.Body.Read(got[n:])
		if n += m; err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-HTTP/1.1 upstream +HTTP/2 bytes:\n%.2000s", diff)
	}
	shutDown()
	_ = readAll(t, resp.Body) // fails unless the stream ends cleanly
}

// TestTask: a watch that is given a task to run in waits for it to run.
func TestTask(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	c.fill(t)
	all := func(*http.Request, *request.RequestInfo) bool { return true }
	server := httptest.NewServer(routine.WithRoutine(c.handler(h), all))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	_, oracle := c.servers(t, h)
	path := "/api/v1/configmaps?watch=true&allowWatchBookmarks=true"
	header := map[string]string{"Accept": asJSON}
	want, got := open(t, oracle, path, header), open(t, server, path, header)
	c.script(t)
	if diff := cmp.Diff(want.read(t), got.read(t)); diff != "" || got.way != "bytes" {
		t.Errorf("by %q, -upstream +bytes:\n%s", got.way, diff)
	}
}

// TestAudited: an answer whose body is to be audited takes the decoding road; one whose metadata is does not.
func TestAudited(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	c.fill(t)
	for level, want := range map[auditapi.Level]string{
		auditapi.LevelNone: "bytes", auditapi.LevelMetadata: "bytes", auditapi.LevelRequest: "bytes", auditapi.LevelRequestResponse: "",
	} {
		for _, path := range []string{"/api/v1/configmaps", "/api/v1/namespaces/default/configmaps/cm-01"} {
			ctx := audit.WithAuditContext(t.Context())
			if err := audit.AuditContextFrom(ctx).Init(audit.RequestAuditConfig{Level: level}, nil); err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			c.handler(h).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx))
			if got := w.Header().Get(wayHeader); got != want || w.Code != http.StatusOK {
				t.Errorf("%s at level %s: status %d by %q, want %q", path, level, w.Code, got, want)
			}
		}
	}
}

// TestRefused: requests that are not reads, or not of a plain resource, are not touched.
func TestRefused(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	c.fill(t)
	res := c.resources["configmaps"].res
	plain := request.RequestInfo{APIVersion: "v1", Resource: "configmaps", Namespace: "default", Name: "cm-01"}
	for _, tt := range []struct {
		name   string
		method string
		change func(*request.RequestInfo)
	}{
		{"HEAD", http.MethodHead, func(*request.RequestInfo) {}},
		{"DELETE", http.MethodDelete, func(*request.RequestInfo) {}},
		{"subresource", http.MethodGet, func(i *request.RequestInfo) { i.Subresource = "status" }},
	} {
		info := plain
		tt.change(&info)
		serve := map[string]func(http.ResponseWriter, *http.Request, *request.RequestInfo, *read.Resource) bool{"get": h.Get, "list": h.List, "watch": h.Watch}
		for verb, f := range serve {
			w := httptest.NewRecorder()
			req := httptest.NewRequest(tt.method, "/?watch="+fmt.Sprint(verb == "watch"), nil)
			if f(w, req, &info, res) || w.Body.Len() > 0 || len(w.Header()) > 0 {
				t.Errorf("%s %s was answered", tt.name, verb)
			}
		}
	}
	w := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/?watch=true", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	if h.Watch(w, req, &plain, res) {
		t.Error("a watch over WebSocket was answered")
	}
}

// TestObserved: every event of a watch is counted with its size.
func TestObserved(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	counted, bytes := 0, 0
	c, h := newCluster(t, read.Config{Observe: func(gvr schema.GroupVersionResource) func(int) {
		if gvr.Resource != "configmaps" {
			return func(int) {}
		}
		return func(n int) {
			mu.Lock()
			defer mu.Unlock()
			counted, bytes = counted+1, bytes+n
		}
	}})
	c.fill(t)
	server, _ := c.servers(t, h)
	w := open(t, server, "/api/v1/configmaps?watch=true&allowWatchBookmarks=true", map[string]string{"Accept": asJSON})
	c.script(t)
	frames := w.read(t)
	mu.Lock()
	defer mu.Unlock()
	if counted != len(frames) || bytes != len(strings.Join(frames, "")) {
		t.Errorf("counted %d events of %d bytes, saw %d of %d", counted, bytes, len(frames), len(strings.Join(frames, "")))
	}
}
