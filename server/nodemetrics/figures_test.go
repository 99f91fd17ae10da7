package nodemetrics

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
)

func at(seconds int) time.Time { return time.Unix(int64(seconds), 0) }

// What is used is what was used between two times, or since it began where that was in between.
func TestUsed(t *testing.T) {
	t.Parallel()
	both := hasCPU | hasMemory
	for name, tc := range map[string]struct {
		from, to    *point
		cores, over float64
		not         bool
	}{
		"both times":                {from: &point{at: at(10), cpu: 5, has: both}, to: &point{at: at(20), cpu: 10, memory: 7, has: both}, cores: 0.5, over: 10},
		"long there":                {from: &point{at: at(10), cpu: 5, has: both}, to: &point{at: at(20), cpu: 10, memory: 7, started: at(1), has: both}, cores: 0.5, over: 10},
		"new":                       {to: &point{at: at(20), cpu: 4, memory: 7, started: at(12), has: both}, cores: 0.5, over: 8},
		"began anew":                {from: &point{at: at(10), cpu: 5, has: both}, to: &point{at: at(20), cpu: 2, memory: 7, started: at(16), has: both}, cores: 0.5, over: 4},
		"began anew, and used more": {from: &point{at: at(10), cpu: 1, has: both}, to: &point{at: at(20), cpu: 2, memory: 7, started: at(16), has: both}, cores: 0.5, over: 4},
		"began anew, unknown when":  {from: &point{at: at(10), cpu: 5, has: both}, to: &point{at: at(20), cpu: 2, memory: 7, has: both}, not: true},
		"too new":                   {to: &point{at: at(20), cpu: 4, memory: 7, started: at(20), has: both}, not: true},
		"unknown before":            {to: &point{at: at(20), cpu: 4, memory: 7, has: both}, not: true},
		"gone":                      {from: &point{at: at(10), cpu: 5, has: both}, not: true},
		"no memory":                 {from: &point{at: at(10), cpu: 5, has: both}, to: &point{at: at(20), cpu: 10, has: hasCPU}, not: true},
		"the same time":             {from: &point{at: at(20), cpu: 5, has: both}, to: &point{at: at(20), cpu: 5, has: both}, not: true},
	} {
		cores, bytes, over, ok := used(tc.from, tc.to)
		if ok == tc.not || ok && (cores != tc.cores || bytes != 7 || over.Seconds() != tc.over) {
			t.Errorf("%s: %f cores, %f bytes over %v: %v", name, cores, bytes, over, ok)
		}
	}
}

// Nodes that do not answer, or nonsense, are not asked again at once, and do not keep others' figures back.
func TestNodesThatFail(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name, _, _ := strings.Cut(req.Host, ".")
		mu.Lock()
		asked[name]++
		mu.Unlock()
		switch name {
		case "refuses":
			http.Error(w, "Forbidden", http.StatusForbidden)
		case "talks":
			_, _ = w.Write([]byte("<html>{{{"))
		case "much":
			_, _ = w.Write([]byte("node_cpu_usage_seconds_total " + strings.Repeat("9", fetchBytes)))
		default:
			_, _ = w.Write([]byte("node_cpu_usage_seconds_total 1\nnode_memory_working_set_bytes 5\n"))
		}
	}))
	defer server.Close()
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := newFigures(Config{Log: slog.New(slog.DiscardHandler), Connect: func(_ context.Context, node string) (*kubeletclient.ConnectionInfo, error) {
		if node == "unknown" {
			return nil, errors.New("no such node")
		}
		return &kubeletclient.ConnectionInfo{Scheme: "http", Hostname: node + ".test", Port: "1", Transport: to{target.Host}}, nil
	}})
	names := []string{"good", "refuses", "talks", "much", "unknown"}
	for range 3 {
		windows := f.of(t.Context(), names)
		w, ok := windows["good"]
		if len(windows) != 1 || !ok || w.base == nil || w.last.node.memory != 5 {
			t.Fatalf("%+v", windows)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, name := range names[1:4] {
		if asked[name] != 1 {
			t.Errorf("%s was asked %d times", name, asked[name])
		}
	}
	if asked["good"] != 2 {
		t.Errorf("good was asked %d times", asked["good"])
	}
	f.drop()
	if len(f.nodes) != 0 || f.forget != nil {
		t.Error("figures are kept")
	}
}

// to sends all requests to one address.
type to struct{ host string }

func (t to) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Host, req.URL.Host = req.URL.Host, t.host
	return http.DefaultTransport.RoundTrip(req)
}
