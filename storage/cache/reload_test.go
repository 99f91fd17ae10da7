package cache_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// TestEpoch: a new epoch makes the cache load afresh and ends all watchers, waiting or not.
func TestEpoch(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"wake-up", "commit", "current", "watcher behind"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := deaf(database(t)())
				reg := prometheus.NewRegistry()
				c := start(t, cache.Config{Store: s, Metrics: newMetrics(t, reg), RingEntries: 20})
				first := c.Position().Revision
				head := fillOwn(t, s, c, 100)
				var ws []*cache.Watcher
				ended := make(chan error, len(selections))
				for _, sel := range selections {
					w := watch(t, c, sel, head)
					ws = append(ws, w)
					go func() { _, err := w.Next(t.Context()); ended <- err }()
				}
				behind := watch(t, c, storage.Selector{Resource: "pods"}, first)
				idle := watch(t, c, storage.Selector{Resource: "pods"}, head)
				old, _ := c.Get(pod("a", "0"))
				synctest.Wait()

				s.epoch.Add(1)
				switch how {
				case "wake-up":
					s.nudge()
				case "commit":
					apply(t, s, c, create(pod("b", "new"), "1"))
				case "current":
					if rev, err := c.Current(t.Context()); err != nil || rev != head || c.Position().Epoch != firstEpoch+1 {
						t.Errorf("Current: %d, %v in epoch %d", rev, err, c.Position().Epoch)
					}
				case "watcher behind":
					if _, err := behind.Next(t.Context()); !errors.Is(err, storage.ErrCompacted) {
						t.Errorf("Next of one behind: %v", err)
					}
				}
				for range ws {
					if err := <-ended; !errors.Is(err, storage.ErrCompacted) {
						t.Errorf("Next: %v", err)
					}
				}
				for _, w := range []*cache.Watcher{behind, idle} {
					if _, err := w.TryNext(); !errors.Is(err, storage.ErrCompacted) {
						t.Errorf("TryNext: %v", err)
					}
				}
				if at := c.Position(); at.Epoch != firstEpoch+1 || at.Revision < head {
					t.Errorf("position after the reload: %v", at)
				}
				if e, _ := c.Get(pod("a", "0")); e == old {
					t.Error("an entry of the old epoch is still used")
				}
				if n := metric(t, reg, "cache_reloads_total"); n != 1 {
					t.Errorf("%v reloads counted", n)
				}
				from := c.Position().Revision
				w := watch(t, c, storage.Selector{Resource: "pods"}, from)
				rev := apply(t, s, c, create(pod("b", "after"), "1"))
				equal(t, "after the reload", show(collect(t, w, rev)), logged(t, s.Store, storage.Selector{}, from))
			})
		})
	}
}

const firstEpoch = 1 // the memory store's epoch

// TestGap: a cache that missed more than the log still has loads afresh, and keeps the states it had.
func TestGap(t *testing.T) {
	t.Parallel()
	open := database(t)
	s, foreign := deaf(open()), open()
	commit(t, foreign, create(pod("a", "kept"), "1"))
	c := start(t, cache.Config{Store: s})
	w := watch(t, c, storage.Selector{Resource: "pods"}, c.Position().Revision)
	kept, _ := c.Get(pod("a", "kept"))
	kept.SetAux("remembered")
	var head storage.Revision
	for i := range 10 {
		head = commit(t, foreign, create(pod("b", fmt.Sprint(i)), "1")).Head
	}
	if err := foreign.Compact(t.Context(), head); err != nil {
		t.Fatal(err)
	}
	s.nudge()
	waitFor(t, c, head)
	if _, err := w.Next(t.Context()); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("Next: %v", err)
	}
	if e, _ := c.Get(pod("a", "kept")); e != kept || e.Aux() != "remembered" {
		t.Error("an unchanged state was not kept")
	}
	if n := c.Snapshot("pods").Len(); n != 11 {
		t.Errorf("%d pods after the reload, want 11", n)
	}
	if _, err := c.SnapshotAt(t.Context(), "pods", head-1); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("SnapshotAt before the reload: %v", err)
	}
}

// TestLoadWhileWriting: pages of the first load are of one revision whatever is committed between them; when that
// revision is compacted away meanwhile, the load starts over.
func TestLoadWhileWriting(t *testing.T) {
	t.Parallel()
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compact=%t", compact), func(t *testing.T) {
			t.Parallel()
			open := database(t)
			s, foreign := newStage(open()), open()
			var ops []storage.Op
			for i := range 3500 {
				ops = append(ops, create(pod("a", fmt.Sprintf("%05d", i)), "1"))
			}
			revs := commit(t, foreign, ops...).Results
			n := 0
			s.set(func(s *stage) {
				s.onList = func(ctx context.Context, opts storage.ListOptions) error {
					if opts.Revision == 0 || n >= len(revs) {
						return nil
					}
					// In front of and behind the page, and later a page again.
					done := commit(t, foreign, remove(ops[n].Key, revs[n].Revision), create(pod("a", fmt.Sprintf("z%d", n)), "1"))
					if n++; compact && n == 2 {
						return foreign.Compact(ctx, done.Head)
					}
					return nil
				}
			})
			c := start(t, cache.Config{Store: s})
			head, err := foreign.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, c, head.Revision)
			equal(t, "pods", stateIn(t, c.Snapshot("pods")), stateOf(t, foreign, storage.Selector{Resource: "pods"}, 0))
			if n < 3 {
				t.Errorf("only %d pages were read", n)
			}
		})
	}
}

// TestDiverged: a commit that does not fit what the cache holds is a broken invariant; the cache gets it right again.
func TestDiverged(t *testing.T) {
	t.Parallel()
	open := database(t)
	s := open()
	c := start(t, cache.Config{Store: s})
	apply(t, s, c, create(pod("a", "x"), "1"))
	ops := []storage.Op{create(pod("a", "y"), "1")}
	done := commit(t, s, ops...)
	c.Apply([]storage.Op{update(pod("a", "wrong"), 77, "1")}, nil, done)
	waitFor(t, c, done.Head)
	equal(t, "pods", stateIn(t, c.Snapshot("pods")), stateOf(t, s, storage.Selector{Resource: "pods"}, 0))
}
