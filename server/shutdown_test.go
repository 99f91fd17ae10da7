package server_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// notes keeps what is logged.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// TestShutdown stops a server that watches hang on: they end cleanly on every road, and nothing is amiss in the log.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, path, accept string }{
		{"bytes", "/api/v1/namespaces?watch=true", "application/json"},
		{"protobuf", "/api/v1/namespaces?watch=true", "application/vnd.kubernetes.protobuf;stream=watch"},
		{"table", "/api/v1/namespaces?watch=true", "application/json;as=Table;v=v1;g=meta.k8s.io"},
		{"other version", "/apis/autoscaling/v1/horizontalpodautoscalers?watch=true", "application/json"},
		{"old form", "/api/v1/watch/namespaces", "application/json"},
		{"bookmarks", "/api/v1/namespaces?watch=true&allowWatchBookmarks=true&resourceVersion=0", "application/json"},
	} {
		for _, protocol := range []string{"HTTP/2.0", "HTTP/1.1"} {
			t.Run(tt.name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				log := &notes{}
				s := servertest.Start(t, servertest.Config{Log: slog.New(slog.NewTextHandler(log, nil))})
				cfg := s.Config(servertest.Default, servertest.AdminToken)
				if protocol == "HTTP/1.1" {
					cfg.NextProtos = []string{"http/1.1"}
				}
				client, err := rest.HTTPClientFor(cfg)
				if err != nil {
					t.Fatal(err)
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+tt.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Accept", tt.accept)
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if resp.StatusCode != http.StatusOK || resp.Proto != protocol {
					t.Fatalf("%s %s", resp.Proto, resp.Status)
				}
				if err := s.Stop(); err != nil {
					t.Error(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Errorf("the watch ended with %v, want a clean end", err)
				}
				if text := log.String(); strings.Contains(text, "level=WARN") || strings.Contains(text, "level=ERROR") {
					t.Error(text)
				}
			})
		}
	}
}

// TestRefusesAfterStop asks a server that has stopped.
func TestRefusesAfterStop(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Client(t, servertest.Default).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
	if _, _, err := s.Clusters.Acquire(t.Context(), servertest.Default); err == nil {
		t.Error("a cluster was opened after the end")
	}
}
