package cache

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"unique"

	"github.com/rowlock-io/rowlock/storage"
)

// Batch is what a watcher got: all of its selection's changes after the batch before and up to Through. Changes may
// be empty; it is shared and read-only, and has at most 1,000 items.
type Batch struct {
	Changes []Change
	Through storage.Revision
}

const maxBatch = 1000

// Watcher gives every change of a selection in order, each once. Next and TryNext are for one goroutine at a time;
// Wake and Close may be called from any.
type Watcher struct {
	cache *Cache
	world *world
	res   *resource // nil: all resources
	sel   storage.Selector
	bells *bells
	place place
	bell  *bell

	after storage.Revision // everything of sel up to it has been returned
	gate  *gate            // if set, nothing of sel came after after, unless it is marked

	wake    chan struct{}
	failed  atomic.Pointer[error]
	reading atomic.Pointer[context.CancelFunc] // of a read of the log that is under way
	stop    func() bool
	once    sync.Once
}

// Watch starts a watcher behind a revision, which is taken now and not when Next is first called. It must be closed,
// unless ctx ends. Errors, here or from Next: storage.ErrCompacted when changes after that revision are gone or the
// epoch changed, storage.ErrFuture when the cache has not reached it (WaitFor first), storage.ErrClosed, ctx's.
func (c *Cache) Watch(ctx context.Context, sel storage.Selector, after storage.Revision) (*Watcher, error) {
	if _, err := c.loaded(ctx); err != nil {
		return nil, fmt.Errorf("watch after %d: %w", after, err)
	}
	w := &Watcher{
		cache: c, sel: sel, after: after,
		// Interned as the entries' namespaces are, so that equal ones compare by pointer.
		place: place{namespace: unique.Make(sel.Namespace).Value(), name: sel.Name},
		wake:  make(chan struct{}, 1),
	}
	if err := c.admit(w); err != nil {
		return nil, fmt.Errorf("watch after %d: %w", after, err)
	}
	if _, _, behind := w.news(after); behind {
		// Better an answer now than an error in the middle of a stream.
		floor, err := c.store.Floor(ctx)
		if err == nil && after < floor {
			err = storage.ErrCompacted
		}
		if err != nil {
			w.bells.leave(w.place)
			return nil, fmt.Errorf("watch after %d: %w", after, err)
		}
	}
	c.watches.Add(1)
	w.stop = context.AfterFunc(ctx, func() { w.release(ctx.Err()) })
	return w, nil
}

// admit binds a watcher to the present world.
func (c *Cache) admit(w *Watcher) error {
	c.mu.Lock() // no publish is half done
	defer c.mu.Unlock()
	if c.closed {
		return storage.ErrClosed
	}
	w.world = c.world.Load()
	if now := w.world.revision(); w.after > now {
		return fmt.Errorf("cache is at %d: %w", now, storage.ErrFuture)
	}
	if w.sel.Resource == "" {
		w.bells = &w.world.bells
	} else {
		w.res = w.world.resource(w.sel.Resource)
		w.bells = &w.res.bells
	}
	w.bell = w.bells.enter(w.place)
	return nil
}

// Close ends the watcher; a Next that blocks returns storage.ErrClosed.
func (w *Watcher) Close() {
	w.stop()
	w.release(fmt.Errorf("watcher: %w", storage.ErrClosed))
}

// release ends the watcher and gives back what it holds.
func (w *Watcher) release(err error) {
	w.once.Do(func() {
		w.failed.Store(&err)
		signal(w.wake)
		if cancel := w.reading.Load(); cancel != nil {
			(*cancel)()
		}
		w.bells.leave(w.place)
		w.cache.watches.Add(-1)
	})
}

// Wake makes a Next that blocks, or else the next one that would, return what is there, if need be an empty batch
// with the revision reached. Calls coalesce.
func (w *Watcher) Wake() { signal(w.wake) }

// Next waits for changes. It returns an empty batch only after Wake.
func (w *Watcher) Next(ctx context.Context) (Batch, error) {
	for {
		b, behind, err := w.read()
		if err != nil || len(b.Changes) > 0 {
			return b, err
		}
		if behind {
			b, err := w.readLog(ctx)
			if err != nil || len(b.Changes) > 0 {
				return b, err
			}
			continue
		}
		select {
		case <-w.gate.open:
		case <-w.wake:
			return w.TryNext()
		case <-ctx.Done():
			return Batch{Through: w.after}, ctx.Err()
		}
	}
}

// TryNext returns what is there without waiting. It never asks the database, so a watcher that has to catch up from
// the log gets nothing here.
func (w *Watcher) TryNext() (Batch, error) {
	b, _, err := w.read()
	return b, err
}

func (w *Watcher) err() error {
	if p := w.failed.Load(); p != nil {
		return *p
	}
	return w.world.err()
}

// read takes what is in the history in memory. When it returns nothing and is not behind, w.gate opens at the next
// change.
func (w *Watcher) read() (b Batch, behind bool, err error) {
	for {
		if err := w.err(); err != nil {
			return Batch{Through: w.after}, false, err
		}
		if g := w.gate; g != nil {
			through := w.world.revision() // before looking at the mark, see bell.mark
			if !g.marked.Load() {
				w.after = max(w.after, through)
				return Batch{Through: w.after}, false, nil
			}
			w.after = max(w.after, g.quiet)
			w.gate = nil
		}
		gate := w.bell.gate()
		if err := w.err(); err != nil { // again: a world that ended before we took the gate does not ring it
			return Batch{Through: w.after}, false, err
		}
		through := w.world.revision() // before the history, which then holds everything up to it
		items, all, behind := w.news(through)
		if behind {
			return Batch{Through: w.after}, true, nil
		}
		if all {
			w.gate = gate
			w.after = max(w.after, through)
		}
		if n := len(items); n > 0 {
			w.after = max(w.after, items[n-1].Entry.Revision)
			items = w.filter(items)
		}
		if all || len(items) > 0 {
			return Batch{Changes: items, Through: w.after}, false, nil
		}
	}
}

// news returns changes after w.after, up to at least through when that is all; else only the first of them. behind
// tells that the history in memory does not reach back so far.
func (w *Watcher) news(through storage.Revision) (items []Change, all, behind bool) {
	if w.res != nil {
		h := w.res.history.Load()
		if w.after < h.floor {
			return nil, false, true
		}
		items, all = h.after(w.after)
		return items, all, false
	}
	all = true
	for _, r := range *w.world.resources.Load() {
		h := r.history.Load()
		if w.after < h.floor {
			return nil, false, true
		}
		some, last := h.after(w.after)
		if !last {
			all = false
			// Of the other resources we may not go further than this one does here.
			through = min(through, some[len(some)-1].Entry.Revision)
		}
		items = append(items, some...)
	}
	slices.SortFunc(items, func(a, b Change) int { return cmp.Compare(a.Entry.Revision, b.Entry.Revision) })
	end := sort.Search(len(items), func(i int) bool { return items[i].Entry.Revision > through })
	if end > maxBatch {
		end, all = maxBatch, false
	}
	return items[:end], all, false
}

// filter keeps the selection's changes. Where they lie side by side, which is the rule, nothing is copied.
func (w *Watcher) filter(items []Change) []Change {
	if w.place == (place{}) {
		return items
	}
	from, to := 0, 0 // the first run of matches
	for i := range items {
		if !w.place.matches(&items[i]) {
			continue
		}
		if to == 0 {
			from = i
		} else if to != i {
			return w.gather(items[from:], to-from)
		}
		to = i + 1
	}
	return items[from:to:to]
}

// gather copies the selection's changes, of which the first run are known.
func (w *Watcher) gather(items []Change, run int) []Change {
	n := run
	for i := run; i < len(items); i++ {
		if w.place.matches(&items[i]) {
			n++
		}
	}
	some := append(make([]Change, 0, n), items[:run]...)
	for i := run; i < len(items); i++ {
		if w.place.matches(&items[i]) {
			some = append(some, items[i])
		}
	}
	return some
}

// matches tells whether a change of the right resource is in a place.
func (p *place) matches(c *Change) bool {
	k := &c.Entry.Key
	return (p.namespace == "" || p.namespace == k.Namespace) && (p.name == "" || p.name == k.Name)
}
