package read_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowlock-io/rowlock/server/read"
)

// recorder is a ResponseWriter that can be looked at while a handler writes.
type recorder struct {
	mu      sync.Mutex
	header  http.Header
	body    strings.Builder
	writes  int
	flushes int
	block   chan struct{} // when not nil, writes wait for it
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(int)     {}

func (r *recorder) Write(p []byte) (int, error) {
	if r.block != nil {
		<-r.block
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes++
	return r.body.Write(p)
}

func (r *recorder) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushes++
}

// events returns type and resourceVersion of what has been written.
func (r *recorder) events(t *testing.T) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for line := range strings.Lines(r.body.String()) {
		var e struct {
			Type   string
			Object struct {
				Metadata struct{ Name, ResourceVersion string }
				Reason   string
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		all = append(all, strings.TrimSpace(e.Type+" "+e.Object.Metadata.ResourceVersion+" "+e.Object.Metadata.Name+e.Object.Reason))
	}
	return all
}

// watching is a watch that runs against a recorder.
type watching struct {
	*recorder
	done chan struct{}
}

func (c *cluster) watch(ctx context.Context, h *read.Handler, query string) *watching {
	return c.watchInto(ctx, h, query, &recorder{header: http.Header{}})
}

func (c *cluster) watchInto(ctx context.Context, h *read.Handler, query string, r *recorder) *watching {
	w := &watching{recorder: r, done: make(chan struct{})}
	req := httptest.NewRequest(http.MethodGet, "/api/v1/namespaces/default/configmaps?watch=true&"+query, nil).WithContext(ctx)
	go func() {
		defer close(w.done)
		c.handler(h).ServeHTTP(w, req)
	}()
	return w
}

func (w *watching) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

func expect(t *testing.T, what string, got, want []string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestBookmarks: one a minute, one just before the end, and each says how far the watch has come, whatever else was
// written; then the watch ends by itself.
func TestBookmarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newCluster(t, read.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first := c.put(t, "configmaps", stored(configMap("default", "a", nil, "")))
		rv := fmt.Sprintf("resourceVersion=%d&timeoutSeconds=150", first)
		w := c.watch(ctx, h, rv+"&allowWatchBookmarks=true")
		plain := c.watch(ctx, h, rv)
		synctest.Wait()
		time.Sleep(61 * time.Second)
		expect(t, "no change, no bookmark", w.events(t), nil)
		c.put(t, "configmaps", stored(configMap("other", "b", nil, "")))
		c.put(t, "configmaps", stored(configMap("default", "b", nil, "")))
		c.put(t, "namespaces", stored(namespace("n")))
		time.Sleep(60 * time.Second)
		want := []string{fmt.Sprintf("ADDED %d b", first+2), fmt.Sprintf("BOOKMARK %d", first+3)}
		expect(t, "after two minutes", w.events(t), want)
		c.put(t, "namespaces", stored(namespace("m")))
		time.Sleep(28 * time.Second)
		want = append(want, fmt.Sprintf("BOOKMARK %d", first+4))
		expect(t, "just before the end", w.events(t), want)
		if w.ended() {
			t.Error("ended before its time")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !w.ended() || !plain.ended() {
			t.Error("did not end in time")
		}
		expect(t, "at the end", w.events(t), want)
		expect(t, "without bookmarks", plain.events(t), want[:1])
	})
}

// TestTimeout: a watch that does not say how long it wants to last ends after one to two times MinRequestTimeout.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newCluster(t, read.Config{MinRequestTimeout: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all []*watching
		for range 20 {
			all = append(all, c.watch(ctx, h, "resourceVersion=0"))
		}
		time.Sleep(time.Minute - time.Millisecond)
		ended := map[bool]int{}
		for _, w := range all {
			ended[w.ended()]++
		}
		if ended[true] != 0 {
			t.Errorf("%d of 20 ended before a minute", ended[true])
		}
		time.Sleep(time.Minute + 2*time.Millisecond)
		synctest.Wait()
		for _, w := range all {
			if !w.ended() {
				t.Error("did not end within two minutes")
			}
		}
	})
}

// TestShutdown: watches end cleanly when the server begins to shut down, and their clients are told nothing.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serving, stop := context.WithCancel(t.Context())
		c, h := newCluster(t, read.Config{Serving: serving})
		w := c.watch(t.Context(), h, "resourceVersion=0")
		synctest.Wait()
		if w.ended() {
			t.Fatal("ended at once")
		}
		stop()
		synctest.Wait()
		if !w.ended() {
			t.Error("did not end")
		}
		expect(t, "events", w.events(t), nil)
	})
}

// TestClientGone: a watch ends with its request.
func TestClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newCluster(t, read.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		w := c.watch(ctx, h, "resourceVersion=0")
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !w.ended() {
			t.Error("did not end")
		}
	})
}

// TestSlowClient: a client that does not read holds up nobody, and when it reads again it has missed nothing.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newCluster(t, read.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		gate := make(chan struct{})
		start := c.put(t, "configmaps", stored(configMap("default", "a", nil, "")))
		query := fmt.Sprintf("resourceVersion=%d", start)
		slow := c.watchInto(ctx, h, query, &recorder{header: http.Header{}, block: gate})
		quick := c.watch(ctx, h, query)
		synctest.Wait()
		var want []string
		for i := range 2500 {
			rev := c.put(t, "configmaps", stored(configMap("default", "a", nil, fmt.Sprint(i))))
			want = append(want, fmt.Sprintf("MODIFIED %d a", rev))
		}
		synctest.Wait()
		expect(t, "quick", quick.events(t), want)
		close(gate)
		synctest.Wait()
		expect(t, "slow", slow.events(t), want)
		if slow.writes > 100 {
			t.Errorf("%d writes for what came while it was away, want batches", slow.writes)
		}
	})
}

// TestEndsWithTheCache: a cache that stops ends its watches without an error: another replica can go on.
func TestEndsWithTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newCluster(t, read.Config{})
		w := c.watch(t.Context(), h, "resourceVersion=0")
		synctest.Wait()
		c.stop()
		synctest.Wait()
		if !w.ended() {
			t.Error("did not end")
		}
		expect(t, "events", w.events(t), nil)
	})
}
