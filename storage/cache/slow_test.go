package cache_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// TestSlowWatcher: one that never reads keeps neither states alive nor others waiting.
func TestSlowWatcher(t *testing.T) {
	t.Parallel()
	open := database(t)
	s := open()
	c := start(t, cache.Config{Store: s, RingEntries: 50})
	from := c.Position().Revision
	sel := storage.Selector{Resource: "pods"}
	slow := watch(t, c, sel, from)
	quick := watch(t, c, sel, from)

	rev := apply(t, s, c, create(pod("a", "x"), "first"))
	e, _ := c.Get(pod("a", "x"))
	freed := make(chan struct{})
	runtime.AddCleanup(e, func(done chan struct{}) { close(done) }, freed)
	e = nil
	for i := range 1000 {
		rev = apply(t, s, c, update(pod("a", "x"), rev, fmt.Sprint(i)))
		if i%20 == 0 {
			collect(t, quick, rev)
		}
	}
	collect(t, quick, rev)
	for freedYet := false; !freedYet; {
		runtime.GC() // until the test's deadline, if it is never freed
		select {
		case <-freed:
			freedYet = true
		case <-time.After(time.Millisecond):
		}
	}
	equal(t, "the slow one, at last", show(collect(t, slow, rev)), logged(t, s, sel, from))
}

// TestRejoin: a watcher that fell behind reads the log only until it has caught up.
func TestRejoin(t *testing.T) {
	t.Parallel()
	open := database(t)
	s := newStage(open())
	c := start(t, cache.Config{Store: s, RingEntries: 100})
	from := c.Position().Revision
	w := watch(t, c, storage.Selector{Resource: "pods"}, from)
	head := fillOwn(t, s, c, 3000)
	s.changes.Store(0)
	if got := len(collect(t, w, head)); got != 3000 {
		t.Errorf("%d changes, want 3000", got)
	}
	if n := s.changes.Load(); n < 3000/500-1 || n > 3000/500 {
		t.Errorf("%d pages of the log read for 3000 changes", n)
	}
	s.changes.Store(0)
	head = fillOwn(t, s, c, 50)
	if got := len(collect(t, w, head)); got != 50 {
		t.Errorf("%d changes after it rejoined, want 50", got)
	}
	if n := s.changes.Load(); n != 0 {
		t.Errorf("%d pages of the log read after it rejoined", n)
	}
}

// TestCool: who has not read the history that is let go of gets it from the log, and who has reads on in memory.
func TestCool(t *testing.T) {
	t.Parallel()
	open := database(t)
	s := newStage(open())
	c := start(t, cache.Config{Store: s, RingBytes: 1 << 20})
	from := c.Position().Revision
	sel := storage.Selector{Resource: "pods"}
	behind, upToDate := watch(t, c, sel, from), watch(t, c, sel, from)
	head := fillOwn(t, s, c, 3000)
	collect(t, upToDate, head)
	s.changes.Store(0)
	c.Cool()
	head = fillOwn(t, s, c, 10)
	if got := len(collect(t, upToDate, head)); got != 10 {
		t.Errorf("%d changes, want 10", got)
	}
	if n := s.changes.Load(); n != 0 {
		t.Errorf("%d pages of the log read for what had just happened", n)
	}
	equal(t, "who was behind", show(collect(t, behind, head)), logged(t, s, sel, from))
	if s.changes.Load() == 0 {
		t.Error("nothing was let go")
	}
}

// fillOwn makes n changes to a few pods through Apply.
func fillOwn(t testing.TB, s storage.Store, c *cache.Cache, n int) (head storage.Revision) {
	t.Helper()
	for i := range n {
		k := pod("a", fmt.Sprint(i%5))
		op := create(k, fmt.Sprint(i))
		if e, _ := c.Get(k); e != nil {
			op = update(k, e.Revision, fmt.Sprint(i))
		}
		head = apply(t, s, c, op)
	}
	return head
}

// TestQuietSelection: a watcher whose selection does not change keeps up with a busy resource without reading its
// history, even when that has moved on long ago.
func TestQuietSelection(t *testing.T) {
	t.Parallel()
	for _, waiting := range []bool{true, false} {
		t.Run(fmt.Sprintf("waiting=%t", waiting), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStage(database(t)())
				c := start(t, cache.Config{Store: s, RingEntries: 20})
				sel := storage.Selector{Resource: "pods", Namespace: "quiet", Name: "one"}
				w := watch(t, c, sel, c.Position().Revision)
				if _, err := w.TryNext(); err != nil {
					t.Fatal(err)
				}
				got := make(chan cache.Batch, 1)
				next := func() {
					b, err := w.Next(t.Context())
					if err != nil {
						t.Errorf("Next: %v", err)
					}
					got <- b
				}
				if waiting {
					go next()
					synctest.Wait()
				}
				fillOwn(t, s, c, 1000)
				s.changes.Store(0)
				rev := apply(t, s, c, create(pod("quiet", "one"), "hello"))
				if !waiting {
					go next()
				}
				b := <-got
				if len(b.Changes) != 1 || b.Changes[0].Entry.Revision != rev || b.Through != rev {
					t.Errorf("got %v through %d, want the one change at %d", show(b.Changes), b.Through, rev)
				}
				if n := s.changes.Load(); n != 0 {
					t.Errorf("%d pages of the log read", n)
				}
			})
		})
	}
}

// TestBehindWhileAway: a watcher that has to read the log waits for the database to come back.
func TestBehindWhileAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(database(t)())
		c := start(t, cache.Config{Store: s, RingEntries: 1})
		w := watch(t, c, storage.Selector{Resource: "pods"}, c.Position().Revision)
		head := fillOwn(t, s, c, 100)
		away := fmt.Errorf("away: %w", storage.ErrBusy)
		s.set(func(s *stage) { s.onChange = func(context.Context, storage.Revision) error { return away } })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if b, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) || len(b.Changes) != 0 {
			t.Errorf("Next while the database is away: %v, %v", show(b.Changes), err)
		}
		s.set(func(s *stage) { s.onChange = nil })
		if got := len(collect(t, w, head)); got != 100 {
			t.Errorf("%d changes when it is back, want 100", got)
		}
	})
}

// TestBehindHeldUp: closing ends a watcher that hangs in a read of the log.
func TestBehindHeldUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(database(t)())
		c := start(t, cache.Config{Store: s, RingEntries: 1})
		from := c.Position().Revision
		fillOwn(t, s, c, 100)
		s.set(func(s *stage) {
			s.onChange = func(ctx context.Context, _ storage.Revision) error { <-ctx.Done(); return ctx.Err() }
		})
		var wg sync.WaitGroup
		var ws []*cache.Watcher
		for range 10 { // more than may read at a time
			w := watch(t, c, storage.Selector{Resource: "pods"}, from)
			ws = append(ws, w)
			wg.Go(func() {
				if _, err := w.Next(t.Context()); !isClosed(err) {
					t.Errorf("Next: %v", err)
				}
			})
		}
		synctest.Wait()
		for _, w := range ws {
			w.Close()
		}
		wg.Wait()
	})
}

// TestThousandWatchers of all kinds get exactly what is theirs.
func TestThousandWatchers(t *testing.T) {
	t.Parallel()
	open := database(t)
	own, foreign := open(), open()
	c := start(t, cache.Config{Store: own})
	from := c.Position().Revision
	const n = 1000
	got := make([][]cache.Change, n)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ws []*cache.Watcher
	var wg sync.WaitGroup
	for i := range n {
		w := watch(t, c, selections[i%len(selections)], from)
		ws = append(ws, w)
		wg.Go(func() {
			for {
				b, err := w.Next(ctx)
				if err != nil {
					return
				}
				got[i] = append(got[i], b.Changes...)
			}
		})
	}
	head := fill(t, own, foreign, c, 300)
	waitFor(t, c, head)
	cancel()
	wg.Wait()
	for i, w := range ws {
		got[i] = append(got[i], collect(t, w, head)...)
	}
	for i, sel := range selections {
		want := logged(t, own, sel, from)
		equal(t, fmt.Sprintf("watcher %d of %+v", i, sel), show(got[i]), want)
		for j := i; j < n; j += len(selections) {
			// Rendering each would take the time of the rest of the test; what the first one got is right.
			if !slices.EqualFunc(got[j], got[i], func(a, b cache.Change) bool {
				return a.Verb == b.Verb && a.Entry == b.Entry && a.Prev == b.Prev
			}) {
				t.Errorf("watcher %d of %+v got %d changes other than watcher %d", j, sel, len(got[j]), i)
			}
		}
	}
}

// TestBehindNotAhead: what a watcher that reads the log shows, the cache itself has reached.
func TestBehindNotAhead(t *testing.T) {
	t.Parallel()
	open := database(t)
	s, foreign := deaf(open()), open()
	c := start(t, cache.Config{Store: s, RingEntries: 1})
	sel := storage.Selector{Resource: "pods"}
	from := c.Position().Revision
	w := watch(t, c, sel, from)
	head := fillOwn(t, s, c, 50)
	far := commit(t, foreign, create(pod("b", "far"), "1")).Head
	b, err := w.Next(t.Context())
	if err != nil || len(b.Changes) != 50 || b.Through != head {
		t.Errorf("%d changes through %d, %v; want 50 through %d", len(b.Changes), b.Through, err, head)
	}
	s.nudge()
	equal(t, "the rest", show(collect(t, w, far)), logged(t, s, sel, head))
}

// TestThrough: a batch speaks for everything that the cache has, not only for its last change.
func TestThrough(t *testing.T) {
	t.Parallel()
	s := database(t)()
	c := start(t, cache.Config{Store: s})
	for _, sel := range []storage.Selector{{Resource: "pods", Namespace: "a"}, {Namespace: "a"}} {
		w := watch(t, c, sel, c.Position().Revision)
		head := apply(t, s, c, create(pod("a", "x"+sel.Resource), "1"), create(key("nodes", "", "x"+sel.Resource), "1"))
		if b, err := w.Next(t.Context()); err != nil || len(b.Changes) != 1 || b.Through != head {
			t.Errorf("%+v: %d changes through %d, %v; want 1 through %d", sel, len(b.Changes), b.Through, err, head)
		}
	}
}

// TestExact: an object that changes at every revision is read at exactly the revision that the read names, while
// writing goes on.
func TestExact(t *testing.T) {
	t.Parallel()
	s := database(t)()
	c := start(t, cache.Config{Store: s})
	rev := apply(t, s, c, create(pod("a", "x"), "1"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	read := func(one func() (e *cache.Entry, at storage.Revision)) {
		wg.Go(func() {
			for last := storage.Revision(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				e, at := one()
				if e.Revision != at || at < last {
					t.Errorf("state of %d read at %d, after %d", e.Revision, at, last)
					return
				}
				last = at
			}
		})
	}
	read(func() (*cache.Entry, storage.Revision) {
		e, at := c.Get(pod("a", "x"))
		return e, at.Revision
	})
	read(func() (*cache.Entry, storage.Revision) {
		snap := c.Snapshot("pods")
		return snap.Get("a", "x"), snap.Revision()
	})
	for range 5000 {
		rev = apply(t, s, c, update(pod("a", "x"), rev, "1"))
	}
	close(stop)
	wg.Wait()
}
