package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

const (
	maxKept = 8
	keepFor = time.Minute // after the last use
)

// past keeps a few snapshots of the past for the next pages of the lists that asked for them.
type past struct {
	floor atomic.Uint64 // what is older is gone, wherever it may still be remembered

	mu   sync.Mutex
	kept []*kept // least recently used first
}

type moment struct {
	world    *world
	resource string
	rev      storage.Revision
}

type kept struct {
	moment
	done  chan struct{} // closed when snap or err is there
	snap  Snapshot
	err   error
	timer *time.Timer
}

// Forget makes SnapshotAt answer for what is older than the compaction floor as the store does, and every replica with it,
// though the history in memory may reach further back. Watches that resume from memory need no more than that, and go on.
func (c *Cache) Forget(floor storage.Revision) {
	for {
		known := c.past.floor.Load()
		if uint64(floor) <= known || c.past.floor.CompareAndSwap(known, uint64(floor)) {
			return
		}
	}
}

// SnapshotAt returns a resource exactly as it was at a revision, 0 meaning now: from the history in memory where that
// reaches back far enough, else from the store. The result is kept a while, for the next pages of the same list.
// Errors: storage.ErrCompacted, storage.ErrFuture when the cache has not reached it, and the store's.
func (c *Cache) SnapshotAt(ctx context.Context, resource string, at storage.Revision) (Snapshot, error) {
	if _, err := c.loaded(ctx); err != nil {
		return Snapshot{}, fmt.Errorf("list %s at %d: %w", resource, at, err)
	}
	if at == 0 {
		return c.Snapshot(resource), nil
	}
	if floor := c.past.floor.Load(); uint64(at) < floor {
		return Snapshot{}, fmt.Errorf("list %s at %d: %w: kept from %d", resource, at, storage.ErrCompacted, floor)
	}
	for {
		// With the lock held no publish is half done, so the version and the history belong together.
		c.mu.Lock()
		w := c.world.Load()
		now := w.revision()
		var v *version
		h := &history{floor: w.start}
		r := w.find(resource)
		if r != nil {
			v, h = r.version.Load(), r.history.Load()
		}
		c.mu.Unlock()
		if at > now {
			return Snapshot{}, fmt.Errorf("list %s at %d, cache is at %d: %w", resource, at, now, storage.ErrFuture)
		}
		if at >= h.floor {
			if v == nil {
				return Snapshot{rev: at}, nil
			}
			if after, _ := h.after(at); len(after) == 0 {
				return Snapshot{tree: v.tree, rev: at, pivots: &w.pivots, of: r}, nil
			}
		}
		k, mine := c.past.get(moment{world: w, resource: resource, rev: at})
		if mine {
			snap, err := Snapshot{rev: at, pivots: &w.pivots}, error(nil)
			if at >= h.floor {
				snap.tree, snap.of = rollBack(v.tree, h, at), r
			} else {
				snap.tree, err = c.listAt(ctx, w, v, resource, at)
			}
			c.past.finish(k, snap, err)
			return snap, err
		}
		select {
		case <-k.done:
		case <-ctx.Done():
			return Snapshot{}, fmt.Errorf("list %s at %d: %w", resource, at, ctx.Err())
		}
		if k.err == nil {
			return k.snap, nil
		}
		// The one who asked the store may have been cancelled; that is not our failure.
		if !errors.Is(k.err, context.Canceled) && !errors.Is(k.err, context.DeadlineExceeded) {
			return Snapshot{}, k.err
		}
		if err := ctx.Err(); err != nil {
			return Snapshot{}, fmt.Errorf("list %s at %d: %w", resource, at, err)
		}
	}
}

// rollBack undoes what came after at, newest first. at must not be below the history's floor.
func rollBack(now *tree, h *history, at storage.Revision) *tree {
	// Copy writes to the tree it copies, which others read and copy too; a shallow copy of the header is ours alone.
	own := *now
	t := own.Copy()
	for i := len(h.chunks) - 1; i >= 0; i-- {
		items := h.chunks[i].filled()
		for j := len(items) - 1; j >= 0; j-- {
			c := &items[j]
			if c.Entry.Revision <= at {
				return t
			}
			if c.Prev == nil {
				t.Delete(c.Entry)
			} else {
				t.Set(c.Prev)
			}
		}
	}
	return t
}

// listAt reads a resource's past from the store. States that are still current are shared with the present.
func (c *Cache) listAt(ctx context.Context, w *world, now *version, resource string, at storage.Revision) (*tree, error) {
	t := newTree()
	opts := storage.ListOptions{Revision: at, Limit: pageSize}
	for {
		p, err := c.store.List(ctx, storage.Selector{Resource: resource}, opts)
		if err != nil {
			return nil, fmt.Errorf("list %s at %d: %w", resource, at, err)
		}
		if p.Epoch != w.epoch {
			signal(c.wakeLog)
			return nil, fmt.Errorf("list %s at %d: epoch changed: %w", resource, at, storage.ErrCompacted)
		}
		var old []*Entry
		for i := range p.Objects {
			o := &p.Objects[i]
			var e *Entry
			if now != nil {
				e = w.get(now.tree, o.Namespace, o.Name)
			}
			if e == nil || e.Revision != o.Revision {
				e = newEntry(w.source, o.Key, o.Revision, o.Data)
				old = append(old, e)
			}
			t.Load(e)
		}
		c.budget.visit(c, old)
		if !p.More || len(p.Objects) == 0 {
			return t, nil
		}
		opts.After = p.Objects[len(p.Objects)-1].Key
	}
}

// get finds a kept moment, or makes one that the caller must finish.
func (p *past) get(m moment) (k *kept, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, k := range p.kept {
		if k.moment == m {
			copy(p.kept[i:], p.kept[i+1:])
			p.kept[len(p.kept)-1] = k
			if k.timer != nil {
				k.timer.Reset(keepFor)
			}
			return k, false
		}
	}
	if len(p.kept) >= maxKept {
		p.remove(p.kept[0])
	}
	k = &kept{moment: m, done: make(chan struct{})}
	p.kept = append(p.kept, k)
	return k, true
}

// finish answers a moment. Errors are not kept.
func (p *past) finish(k *kept, snap Snapshot, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k.snap, k.err = snap, err
	close(k.done)
	if err != nil {
		p.remove(k)
		return
	}
	k.timer = time.AfterFunc(keepFor, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.remove(k)
	})
}

// remove forgets a moment, if it is still kept. The caller holds mu.
func (p *past) remove(k *kept) {
	for i := range p.kept {
		if p.kept[i] == k {
			copy(p.kept[i:], p.kept[i+1:])
			p.kept[len(p.kept)-1] = nil
			p.kept = p.kept[:len(p.kept)-1]
			break
		}
	}
	if k.timer != nil {
		k.timer.Stop()
	}
}

func (p *past) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.kept) > 0 {
		p.remove(p.kept[0])
	}
}
