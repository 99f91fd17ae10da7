package cache_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

const objectBytes = 1000

func text(i int) string {
	return fmt.Sprintf("%d %s", i, strings.Repeat("x", objectBytes))[:objectBytes]
}

// fillPods creates pods 0 to n.
func fillPods(t *testing.T, s storage.Store, c *cache.Cache, n int) {
	t.Helper()
	for i := 0; i < n; i += 100 {
		var ops []storage.Op
		for j := i; j < min(i+100, n); j++ {
			ops = append(ops, create(pod(fmt.Sprintf("ns-%d", j/300), fmt.Sprintf("%06d", j)), text(j)))
		}
		apply(t, s, c, ops...)
	}
}

// readAll reads all pods as one list does.
func readAll(t *testing.T, snap cache.Snapshot) {
	t.Helper()
	n := 0
	snap.Scan("", storage.Key{}, func(e *cache.Entry) bool {
		if got := bytesOf(e); got != text(n) {
			t.Errorf("%v: %.60q", e.Key, got)
		}
		n++
		return !t.Failed()
	})
	if n != snap.Len() {
		t.Errorf("read %d of %d", n, snap.Len())
	}
}

// TestBudget: however much is written, read, or there at the start, the budget holds, everything can be read, and who reads one object
// after the other asks the store for many at a time.
func TestBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, maxBytes = 3000, 200 * objectBytes
		open := database(t)
		s := newStage(open())
		budget := cache.NewBudget(maxBytes)
		holds := func(when string) {
			t.Helper()
			synctest.Wait() // a sweep
			if kept := budget.Kept(); kept > maxBytes || kept < maxBytes/4 {
				t.Errorf("%s: %d bytes are kept, the budget is %d", when, kept, maxBytes)
			}
		}
		c, stop := startFor(t, cache.Config{Store: s, Budget: budget})
		fillPods(t, s, c, n)
		holds("filled")
		s.lists.Store(0)
		readAll(t, c.Snapshot("pods"))
		holds("read")
		if asked := s.lists.Load(); asked > n/15 {
			t.Errorf("one list of %d objects asked the store %d times", n, asked)
		}
		if loads := budget.Loads(); loads < n/2 {
			t.Errorf("%d objects were read from the store", loads)
		}
		other := start(t, cache.Config{Store: open(), Budget: cache.NewBudget(maxBytes)})
		readAll(t, other.Snapshot("pods"))
		if err := stop(); err != nil {
			t.Error(err)
		}
		equal(t, "bytes kept of a cache that has ended", budget.Kept(), 0)
		start(t, cache.Config{Store: open(), Budget: budget})
		holds("started anew")
	})
}

// TestBudgetIsShared: what is asked for stays, whichever cache it is in, and what nobody asks for goes.
func TestBudgetIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budget := cache.NewBudget(300 * objectBytes)
		quiet, busy := database(t)(), database(t)()
		a := start(t, cache.Config{Store: quiet, Budget: budget})
		b := start(t, cache.Config{Store: busy, Budget: budget})
		fillPods(t, quiet, a, 250)
		hot, _ := a.Get(pod("ns-0", "000003"))
		rev := apply(t, busy, b, create(pod("hot", "a"), text(1)))
		for i := range 1000 {
			bytesOf(hot)
			rev = apply(t, busy, b, update(pod("hot", "a"), rev, text(i)))
			apply(t, busy, b, create(pod("cold", fmt.Sprint(i)), text(i)))
			synctest.Wait()
		}
		now, _ := b.Get(pod("hot", "a"))
		if !hot.Resident() || !now.Resident() {
			t.Errorf("what is in use is in memory: %v, %v", hot.Resident(), now.Resident())
		}
		kept := 0
		a.Snapshot("pods").Scan("", storage.Key{}, func(e *cache.Entry) bool {
			if e.Resident() {
				kept++
			}
			return true
		})
		if kept > 100 {
			t.Errorf("of a cluster in which nobody reads %d objects are in memory", kept)
		}
	})
}

// TestDroppedPast: states that were dropped are read as they were when they are no longer present, and below the compaction
// floor there is an error.
func TestDroppedPast(t *testing.T) {
	t.Parallel()
	s := newStage(database(t)())
	budget := cache.NewBudget(1)
	c := start(t, cache.Config{Store: s, Budget: budget})
	from := c.Position().Revision
	made := apply(t, s, c, create(pod("a", "x"), "first"))
	w := watch(t, c, storage.Selector{Resource: "pods"}, from)
	e, _ := c.Get(pod("a", "x"))
	for e.Resident() { // a goroutine drops it
		apply(t, s, c, create(pod("b", fmt.Sprint(c.Position().Revision)), "other"))
	}
	changed := apply(t, s, c, update(pod("a", "x"), made, "second"))
	gone := apply(t, s, c, remove(pod("a", "x"), changed))
	equal(t, "a state that was replaced", bytesOf(e), "first")
	for _, change := range collect(t, w, gone) {
		if change.Verb == storage.Delete {
			equal(t, "what was deleted", bytesOf(change.Entry), "second")
			equal(t, "the state before", bytesOf(change.Prev), "second")
		}
	}

	late := apply(t, s, c, create(pod("a", "y"), "first"))
	e, _ = c.Get(pod("a", "y"))
	for e.Resident() {
		apply(t, s, c, create(pod("b", fmt.Sprint(c.Position().Revision)), "other"))
	}
	apply(t, s, c, update(pod("a", "y"), late, "second"))
	if err := s.Compact(t.Context(), c.Position().Revision); err != nil {
		t.Fatal(err)
	}
	if data, err := e.Bytes(); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("below the floor: %q, %v", data, err)
	}
}

// TestDroppedAfterReload: states of a world that ended are told from those of the next.
func TestDroppedAfterReload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, dropAfterReload)
}

func dropAfterReload(t *testing.T) {
	s := deaf(database(t)())
	budget := cache.NewBudget(50 * objectBytes)
	c := start(t, cache.Config{Store: s, Budget: budget})
	fillPods(t, s, c, 100)
	old := c.Position()
	s.epoch.Add(1)
	s.nudge()
	synctest.Wait()
	if c.Position().Epoch == old.Epoch {
		t.Error("the epoch did not change")
	}
	readAll(t, c.Snapshot("pods"))
	synctest.Wait()
	if kept := budget.Kept(); kept > 50*objectBytes {
		t.Errorf("%d bytes are kept", kept)
	}
}
