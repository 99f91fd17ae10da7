package cache_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// fill makes n changes on a few pods, half of them by this replica, and returns the head.
func fill(t testing.TB, own, foreign storage.Store, c *cache.Cache, n int) storage.Revision {
	t.Helper()
	have := map[storage.Key]storage.Revision{}
	p, err := own.List(t.Context(), storage.Selector{}, storage.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range p.Objects {
		have[o.Key] = o.Revision
	}
	var head storage.Revision
	for i := range n {
		k := pod([]string{"a", "b"}[i%2], fmt.Sprintf("p%d", i%7))
		op := create(k, fmt.Sprint(i))
		if rev := have[k]; rev != 0 {
			op = update(k, rev, fmt.Sprint(i))
			if i%5 == 0 {
				op = remove(k, rev)
			}
		}
		s := own
		if i%4 < 2 {
			s = foreign
		}
		done := commit(t, s, op)
		if s == own {
			c.Apply([]storage.Op{op}, nil, done)
		}
		head = done.Head
		have[k] = head
		if op.Verb == storage.Delete {
			have[k] = 0
		}
	}
	return head
}

// logged is what a watcher of sel after a revision must get, by the log.
func logged(t testing.TB, s storage.Store, sel storage.Selector, after storage.Revision) []string {
	t.Helper()
	b, err := s.Changes(t.Context(), after, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []cache.Change
	for _, ch := range b.Changes {
		if !sel.Matches(ch.Key) {
			continue
		}
		c := cache.Change{Verb: ch.Verb}
		o := storage.Object{Key: ch.Key, Revision: ch.Revision, Data: ch.Data}
		if ch.Verb == storage.Delete {
			o.Data = ch.Prev
		}
		c.Entry = cache.NewEntry(o)
		if ch.Verb != storage.Create {
			c.Prev = cache.NewEntry(storage.Object{Key: ch.Key, Revision: ch.PrevRevision, Data: ch.Prev})
		}
		want = append(want, c)
	}
	return show(want)
}

var selections = []storage.Selector{
	{},
	{Resource: "pods"},
	{Resource: "pods", Namespace: "a"},
	{Resource: "pods", Namespace: "b", Name: "p3"},
	{Resource: "pods", Name: "p2"},
	{Resource: "pods", Namespace: "none"},
	{Resource: "nodes"},
	{Namespace: "a"},
}

// TestOrdered, and Unique and Reliable: watchers of every kind get exactly the log, in order.
func TestOrdered(t *testing.T) {
	t.Parallel()
	for _, ring := range []int{0, 1, 20} {
		t.Run(fmt.Sprintf("ring=%d", ring), func(t *testing.T) {
			t.Parallel()
			open := database(t)
			own, foreign := open(), open()
			c := start(t, cache.Config{Store: own, RingEntries: ring})
			from := fill(t, own, foreign, c, 10)
			waitFor(t, c, from)
			var ws []*cache.Watcher
			for _, sel := range selections {
				ws = append(ws, watch(t, c, sel, from))
			}
			head := fill(t, own, foreign, c, 700)
			waitFor(t, c, head)
			for i, w := range ws {
				sel := selections[i]
				equal(t, fmt.Sprintf("%+v", sel), show(collect(t, w, head)), logged(t, own, sel, from))
			}
		})
	}
}

// TestResumable: from every revision, on another replica, the rest comes without a gap.
func TestResumable(t *testing.T) {
	t.Parallel()
	open := database(t)
	own, foreign := open(), open()
	a := start(t, cache.Config{Store: own})
	b := start(t, cache.Config{Store: foreign, RingEntries: 30})
	from := a.Position().Revision
	head := fill(t, own, foreign, a, 100)
	waitFor(t, a, head)
	waitFor(t, b, head)
	sel := storage.Selector{Resource: "pods", Namespace: "a"}
	for after := from; after <= head; after++ {
		want := logged(t, own, sel, after)
		for i, c := range []*cache.Cache{a, b} {
			equal(t, fmt.Sprintf("replica %d after %d", i, after), show(collect(t, watch(t, c, sel, after), head)), want)
		}
	}
}

// TestBookmarkable: what Through says has been returned, also by watchers that get nothing, and resuming from it gives
// the rest.
func TestBookmarkable(t *testing.T) {
	t.Parallel()
	open := database(t)
	own, foreign := open(), open()
	c := start(t, cache.Config{Store: own})
	from := c.Position().Revision
	for _, sel := range selections {
		w := watch(t, c, sel, from)
		var got []cache.Change
		for range 10 {
			head := fill(t, own, foreign, c, 13)
			waitFor(t, c, head)
			// A new watcher each time, from the bookmark.
			got = append(got, collect(t, w, head)...)
			b, err := w.TryNext()
			if err != nil || len(b.Changes) != 0 || b.Through != head {
				t.Fatalf("%+v: TryNext when all was read: %v through %d of %d, %v", sel, b.Changes, b.Through, head, err)
			}
			w.Close()
			w = watch(t, c, sel, b.Through)
		}
		equal(t, fmt.Sprintf("%+v", sel), show(got), logged(t, own, sel, from))
		from = c.Position().Revision
	}
}

func TestCompacted(t *testing.T) {
	t.Parallel()
	open := database(t)
	own, foreign := open(), open()
	c := start(t, cache.Config{Store: own, RingEntries: 10})
	from := c.Position().Revision
	open1 := watch(t, c, storage.Selector{Resource: "pods"}, from)
	head := fill(t, own, foreign, c, 100)
	waitFor(t, c, head)
	if err := own.Compact(t.Context(), head-50); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Watch(t.Context(), storage.Selector{Resource: "pods"}, from); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("Watch below the floor: %v", err)
	}
	if b, err := open1.Next(t.Context()); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("Next of a watcher below the floor: %v, %v", show(b.Changes), err)
	}
	if _, err := c.SnapshotAt(t.Context(), "pods", from); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("SnapshotAt below the floor: %v", err)
	}
	sel := storage.Selector{Resource: "pods"}
	equal(t, "from the floor", show(collect(t, watch(t, c, sel, head-50), head)), logged(t, own, sel, head-50))
}

func TestFuture(t *testing.T) {
	t.Parallel()
	open := database(t)
	own := open()
	c := start(t, cache.Config{Store: own})
	at := c.Position().Revision
	if _, err := c.Watch(t.Context(), storage.Selector{Resource: "pods"}, at+1); !errors.Is(err, storage.ErrFuture) {
		t.Errorf("Watch: %v", err)
	}
	if _, err := c.SnapshotAt(t.Context(), "pods", at+1); !errors.Is(err, storage.ErrFuture) {
		t.Errorf("SnapshotAt: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.WaitFor(ctx, at+1); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitFor: %v", err)
	}
	if err := c.WaitFor(ctx, at); err != nil {
		t.Errorf("WaitFor what is there: %v", err)
	}
}

// TestPositionAtWatch: what happens between Watch and the first Next is not missed.
func TestPositionAtWatch(t *testing.T) {
	t.Parallel()
	open := database(t)
	own := open()
	c := start(t, cache.Config{Store: own})
	for _, sel := range []storage.Selector{{Resource: "pods"}, {}, {Resource: "pods", Namespace: "a", Name: "x"}} {
		rev, _ := own.Head(t.Context())
		w := watch(t, c, sel, rev.Revision)
		made := apply(t, own, c, create(pod("a", "x"), "1"))
		gone := apply(t, own, c, remove(pod("a", "x"), made))
		equal(t, fmt.Sprintf("%+v", sel), show(collect(t, w, gone)), logged(t, own, sel, rev.Revision))
	}
}
