package server_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"k8s.io/apiserver/pkg/server/options"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/server/tracing"
)

// spans is a collector.
type spans struct {
	collector.UnimplementedTraceServiceServer
	address string

	mu  sync.Mutex
	all []*tracev1.Span
}

func newSpans(t *testing.T) *spans {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &spans{address: listener.Addr().String()}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// Export implements collector.TraceServiceServer.
func (s *spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range req.ResourceSpans {
		for _, scope := range r.ScopeSpans {
			s.all = append(s.all, scope.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// of returns the spans of a trace, or those that are linked to it.
func (s *spans) of(trace string) (in, linked []*tracev1.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.all {
		if hex.EncodeToString(span.TraceId) == trace {
			in = append(in, span)
		}
		if slices.ContainsFunc(span.Links, func(l *tracev1.Span_Link) bool { return hex.EncodeToString(l.TraceId) == trace }) {
			linked = append(linked, span)
		}
	}
	return in, linked
}

// paths names each span of a trace with those above it.
func paths(trace []*tracev1.Span) map[string]bool {
	byID := map[string]*tracev1.Span{}
	for _, s := range trace {
		byID[string(s.SpanId)] = s
	}
	found := map[string]bool{}
	for _, s := range trace {
		var path []string
		for at := s; at != nil; at = byID[string(at.ParentSpanId)] {
			path = append(path, at.Name)
		}
		slices.Reverse(path)
		found[strings.Join(path, " > ")] = true
	}
	return found
}

func attributeOf(s *tracev1.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// traced starts a server that sends spans to a collector. stop ends both, and the collector has everything.
func traced(t *testing.T, rate int) (s *servertest.Server, sent *spans, stop func()) {
	t.Helper()
	sent = newSpans(t)
	file := filepath.Join(t.TempDir(), "tracing.yaml")
	text := fmt.Sprintf("apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nendpoint: %s\nsamplingRatePerMillion: %d\n", sent.address, rate)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	provider, err := tracing.Open(&options.TracingOptions{ConfigFile: file}, "test")
	if err != nil {
		t.Fatal(err)
	}
	s = servertest.Start(t, servertest.Config{Plane: func(c *controlplane.Config) { c.Record.Tracer = provider }, Clusters: []string{"other"}})
	return s, sent, func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if err := provider.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// traceOf is a trace's id, made of one digit, and the header by which a client says that a request belongs to it.
func traceOf(digit string) (id string, header http.Header) {
	id = strings.Repeat(digit, 32)
	return id, http.Header{"Traceparent": {"00-" + id + "-00000000000000ab-01"}, "Content-Type": {"application/json"}}
}

// TestSpans follows requests to the database and back.
func TestSpans(t *testing.T) {
	t.Parallel()
	s, sent, stop := traced(t, 0)
	object := `{"metadata":{"name":"traced"}}`
	requests := []struct {
		servertest.Request
		want []string
	}{
		{servertest.Request{Method: "POST", Path: "/api/v1/namespaces/default/configmaps", Body: object}, []string{
			"POST /api/v1/namespaces/{:namespace}/configmaps",
			"POST /api/v1/namespaces/{:namespace}/configmaps > Create",
			"POST /api/v1/namespaces/{:namespace}/configmaps > Create > Create",
			"POST /api/v1/namespaces/{:namespace}/configmaps > Create > Create > Commit to the database",
		}},
		{servertest.Request{Method: "GET", Path: "/api/v1/namespaces/default/configmaps/traced"}, []string{
			"GET /api/v1/namespaces/{:namespace}/configmaps/{:name} > Answer get from bytes",
			"GET /api/v1/namespaces/{:namespace}/configmaps/{:name} > Answer get from bytes > Ask the database for the present",
		}},
		{servertest.Request{Method: "GET", Path: "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"}, []string{
			"GET /apis/autoscaling/v1/namespaces/{:namespace}/horizontalpodautoscalers > List > List",
		}},
		{servertest.Request{Method: "PUT", Path: "/api/v1/namespaces/default/configmaps/traced", Body: `{"metadata":{"name":"traced"},"data":{"a":"b"}}`}, []string{
			"PUT /api/v1/namespaces/{:namespace}/configmaps/{:name} > Update > GuaranteedUpdate > Commit to the database",
		}},
		{servertest.Request{Method: "DELETE", Path: "/api/v1/namespaces/default/configmaps/traced"}, []string{
			"DELETE /api/v1/namespaces/{:namespace}/configmaps/{:name} > Delete > Delete > Commit to the database",
		}},
		{servertest.Request{Method: "GET", Path: "/version"}, []string{"GET"}},
	}
	for i, r := range requests {
		_, r.Header = traceOf(fmt.Sprint(i + 1))
		r.Token = servertest.AdminToken
		if resp := wire.Send(t, s.Address("other"), r.Request); resp.Status >= 300 {
			t.Errorf("%s %s: %d %s", r.Method, r.Path, resp.Status, resp.Body)
		}
	}
	stop()
	for i, r := range requests {
		id, _ := traceOf(fmt.Sprint(i + 1))
		in, _ := sent.of(id)
		found := paths(in)
		for _, want := range r.want {
			if !found[want] {
				t.Errorf("%s %s: no span %q in %v", r.Method, r.Path, want, found)
			}
		}
		for _, span := range in {
			if hex.EncodeToString(span.ParentSpanId) != "00000000000000ab" {
				continue
			}
			if got := attributeOf(span, tracing.ClusterAttribute); got != "other" {
				t.Errorf("%s %s: cluster %q", r.Method, r.Path, got)
			}
			if attributeOf(span, "audit-id") == "" {
				t.Errorf("%s %s: no audit id", r.Method, r.Path)
			}
		}
	}
}

// TestTraceOfStrangers: only members of privileged groups choose the trace of a request, and whether it is sampled.
func TestTraceOfStrangers(t *testing.T) {
	t.Parallel()
	for rate, want := range map[int]struct{ admin, alice, linked int }{
		0:       {1, 0, 0},
		1000000: {1, 0, 1},
	} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			t.Parallel()
			s, sent, stop := traced(t, rate)
			admin, ofAdmin := traceOf("a")
			alice, ofAlice := traceOf("b")
			wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/version", Token: servertest.AdminToken, Header: ofAdmin})
			wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/version", Token: servertest.AliceToken, Header: ofAlice})
			stop()
			got := want
			in, _ := sent.of(admin)
			got.admin = len(in)
			in, linked := sent.of(alice)
			got.alice, got.linked = len(in), len(linked)
			if got != want {
				t.Error(cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)))
			}
		})
	}
}
