package cache_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

func newMetrics(t testing.TB, reg prometheus.Registerer) *cache.Metrics {
	t.Helper()
	m, err := cache.NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func metric(t testing.TB, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	open := database(t)
	s, far := deaf(open()), open()
	reg := prometheus.NewRegistry()
	m := newMetrics(t, reg)
	c := start(t, cache.Config{Store: s, Metrics: m})
	_, stopOther := startFor(t, cache.Config{Store: deaf(database(t)()), Metrics: m})
	ctx, cancel := context.WithCancel(t.Context())
	w := watch(t, c, storage.Selector{Resource: "pods"}, c.Position().Revision)
	if _, err := c.Watch(ctx, storage.Selector{}, c.Position().Revision); err != nil {
		t.Fatal(err)
	}
	rev := apply(t, s, c, create(pod("a", "x"), "12345"), create(pod("a", "y"), "12345"))
	apply(t, s, c, update(pod("a", "y"), rev, "1"))
	expect := func(watchers, objects, kept, bytes, lag int) {
		t.Helper()
		want := fmt.Sprintf(`
# HELP cache_index_bytes Bytes that indexes of labels and fields take, estimated.
# TYPE cache_index_bytes gauge
cache_index_bytes 0
# HELP cache_lag_revisions Revisions known to exist that the cache furthest behind has not reached.
# TYPE cache_lag_revisions gauge
cache_lag_revisions %d
# HELP cache_object_bytes Bytes of present objects that are in memory.
# TYPE cache_object_bytes gauge
cache_object_bytes %d
# HELP cache_object_drops_total Objects whose bytes were dropped from memory to keep within its bound.
# TYPE cache_object_drops_total counter
cache_object_drops_total 0
# HELP cache_object_loads_total Objects read from the database because their bytes had been dropped from memory.
# TYPE cache_object_loads_total counter
cache_object_loads_total 0
# HELP cache_objects Objects held.
# TYPE cache_objects gauge
cache_objects %d
# HELP cache_reloads_total Times a cache was loaded afresh because it had lost its place in the log.
# TYPE cache_reloads_total counter
cache_reloads_total 0
# HELP cache_ring_bytes Bytes that the history kept for watchers takes.
# TYPE cache_ring_bytes gauge
cache_ring_bytes %d
# HELP cache_watchers Open watchers.
# TYPE cache_watchers gauge
cache_watchers %d
`, lag, kept, objects, bytes, watchers)
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	}
	expect(2, 2, 6, 3*200+5, 0)
	w.Close()
	w.Close()
	expect(1, 2, 6, 605, 0)
	cancel()
	for metric(t, reg, "cache_watchers") != 0 { // the context's end comes through a goroutine
	}
	if err := stopOther(); err != nil {
		t.Error(err)
	}

	// A commit of our own that cannot be applied before the log is read shows how far the cache is behind.
	hold := make(chan struct{})
	s.set(func(s *stage) { s.onChange = func(context.Context, storage.Revision) error { <-hold; return nil } })
	commit(t, far, create(pod("b", "1"), "1"))
	head := apply(t, s, c, create(pod("b", "2"), "1"))
	expect(0, 2, 6, 605, 2)
	close(hold)
	waitFor(t, c, head)
	expect(0, 4, 8, 1005, 0)
}
