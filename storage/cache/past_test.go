package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// TestSnapshotAt: every revision of the past, from the history in memory and from the store, is the store's; a
// snapshot does not change while writing goes on.
func TestSnapshotAt(t *testing.T) {
	t.Parallel()
	open := database(t)
	own, foreign := open(), open()
	c := start(t, cache.Config{Store: own, RingEntries: 40})
	first := fill(t, own, foreign, c, 3)
	head := fill(t, own, foreign, c, 150)
	waitFor(t, c, head)
	now := c.Snapshot("pods")
	before := stateIn(t, now)
	for at := first; at <= head; at++ {
		snap, err := c.SnapshotAt(t.Context(), "pods", at)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, fmt.Sprintf("at %d", at), stateIn(t, snap), stateOf(t, own, storage.Selector{Resource: "pods"}, at))
	}
	waitFor(t, c, fill(t, own, foreign, c, 50))
	equal(t, "a snapshot taken before", stateIn(t, now), before)
	if snap, err := c.SnapshotAt(t.Context(), "pods", 0); err != nil || snap.Revision() != c.Position().Revision {
		t.Errorf("SnapshotAt 0 is of %d, %v; want now", snap.Revision(), err)
	}
	if snap, err := c.SnapshotAt(t.Context(), "none", head); err != nil || snap.Len() != 0 || snap.Revision() != head {
		t.Errorf("SnapshotAt of an unknown resource: %d objects at %d, %v", snap.Len(), snap.Revision(), err)
	}
}

// TestPastIsKept: the next pages of a list, and others who want the same, do not ask the store again for a while.
func TestPastIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(database(t)())
		c := start(t, cache.Config{Store: s, RingEntries: 10})
		head := fillOwn(t, s, c, 100)
		s.lists.Store(0)
		get := func(ctx context.Context, at storage.Revision) error {
			_, err := c.SnapshotAt(ctx, "pods", at)
			return err
		}
		hold := make(chan struct{})
		s.set(func(s *stage) {
			s.onList = func(ctx context.Context, _ storage.ListOptions) error {
				select {
				case <-hold:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := get(ctx, head-50); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled SnapshotAt: %v", err)
			}
		})
		synctest.Wait()
		for range 20 {
			wg.Go(func() {
				if err := get(t.Context(), head-50); err != nil {
					t.Errorf("SnapshotAt: %v", err)
				}
			})
		}
		synctest.Wait()
		cancel() // the one whose question they all wait for
		synctest.Wait()
		close(hold)
		wg.Wait()
		if n := s.lists.Load(); n != 2 {
			t.Errorf("%d questions for one moment, one of which was cancelled", n)
		}
		time.Sleep(30 * time.Second)
		if err := get(t.Context(), head-50); err != nil || s.lists.Load() != 2 {
			t.Errorf("%d questions while it is kept, %v", s.lists.Load(), err)
		}
		time.Sleep(59 * time.Second) // counted from the last use
		if err := get(t.Context(), head-50); err != nil || s.lists.Load() != 2 {
			t.Errorf("%d questions while it is kept, %v", s.lists.Load(), err)
		}
		time.Sleep(2 * time.Minute)
		if err := get(t.Context(), head-50); err != nil || s.lists.Load() != 3 {
			t.Errorf("%d questions when it was let go, want another; %v", s.lists.Load(), err)
		}
		for i := range storage.Revision(20) { // no more than a few are kept
			if err := get(t.Context(), head-51-i); err != nil {
				t.Fatal(err)
			}
		}
		n := s.lists.Load()
		if err := get(t.Context(), head-50); err != nil || s.lists.Load() != n+1 {
			t.Errorf("%d questions after many others, want %d; %v", s.lists.Load(), n+1, err)
		}
	})
}

// TestPastOfAnotherEpoch: what the store says after it was set back is not the past that the cache has shown.
func TestPastOfAnotherEpoch(t *testing.T) {
	t.Parallel()
	s := deaf(database(t)())
	c := start(t, cache.Config{Store: s, RingEntries: 10})
	head := fillOwn(t, s, c, 100)
	s.epoch.Add(1)
	if _, err := c.SnapshotAt(t.Context(), "pods", head-50); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("SnapshotAt: %v", err)
	}
	for c.Position().Epoch == firstEpoch { // it has told the reader, which needs no other wake-up
		if err := c.WaitFor(t.Context(), head); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForget: what is compacted is gone from memory too, at once and for good; what is newer stays.
func TestForget(t *testing.T) {
	t.Parallel()
	s := database(t)()
	c := start(t, cache.Config{Store: s})
	head := fillOwn(t, s, c, 20)
	if _, err := c.SnapshotAt(t.Context(), "pods", head-10); err != nil { // which is kept now
		t.Fatal(err)
	}
	for _, floor := range []storage.Revision{head - 5, head - 15} { // it only rises
		c.Forget(floor)
		for at := head - 15; at <= head; at++ {
			_, err := c.SnapshotAt(t.Context(), "pods", at)
			if gone := errors.Is(err, storage.ErrCompacted); gone != (at < head-5) || !gone && err != nil {
				t.Errorf("at %d, with the floor at %d: %v", at, head-5, err)
			}
		}
	}
	if snap, err := c.SnapshotAt(t.Context(), "pods", 0); err != nil || snap.Revision() != head {
		t.Errorf("the present is %d, %v; want %d", snap.Revision(), err, head)
	}
}

// TestSnapshotPlaces: names that sort oddly stay in their namespaces.
func TestSnapshotPlaces(t *testing.T) {
	t.Parallel()
	s := database(t)()
	commit(t, s,
		create(pod("a", "0"), "1"), create(pod("a", "2"), "1"), create(pod("a-b", "1"), "1"), create(pod("ab", "1"), "1"),
		create(pod("b", "0"), "1"), create(pod("b", "3"), "1"), create(pod("b", "4"), "1"),
		create(key("nodes", "", "1"), "1"), create(key("nodes", "", "2"), "1"))
	c := start(t, cache.Config{Store: s})
	tests := []struct {
		resource, namespace string
		after               storage.Key
		want                []string
	}{
		{"pods", "", storage.Key{}, []string{"a/0", "a/2", "a-b/1", "ab/1", "b/0", "b/3", "b/4"}},
		{"pods", "a", storage.Key{}, []string{"a/0", "a/2"}},
		{"pods", "a-b", storage.Key{}, []string{"a-b/1"}},
		{"pods", "", pod("a", "2"), []string{"a-b/1", "ab/1", "b/0", "b/3", "b/4"}},
		{"pods", "", pod("a", "1"), []string{"a/2", "a-b/1", "ab/1", "b/0", "b/3", "b/4"}},
		{"pods", "b", pod("b", "3"), []string{"b/4"}},
		{"pods", "b", pod("a", "9"), []string{"b/0", "b/3", "b/4"}},
		{"pods", "a", pod("b", "0"), nil},
		{"pods", "c", storage.Key{}, nil},
		{"nodes", "", storage.Key{}, []string{"/1", "/2"}},
		{"nodes", "", key("nodes", "", "1"), []string{"/2"}},
		{"none", "", storage.Key{}, nil},
	}
	for _, tt := range tests {
		snap := c.Snapshot(tt.resource)
		var got []string
		snap.Scan(tt.namespace, tt.after, func(e *cache.Entry) bool {
			got = append(got, e.Namespace+"/"+e.Name)
			return true
		})
		what := fmt.Sprintf("%s in %q after %v", tt.resource, tt.namespace, tt.after)
		equal(t, what, got, tt.want)
		equal(t, "count of "+what, snap.Count(tt.namespace, tt.after), len(tt.want))
		n := 0
		snap.Scan(tt.namespace, tt.after, func(*cache.Entry) bool { n++; return n < 2 })
		equal(t, "first of "+what, n, min(2, len(tt.want)))
	}
}
