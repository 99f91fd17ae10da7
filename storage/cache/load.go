package cache

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/rowlock-io/rowlock/storage"
)

// load builds a new world from one listing and puts it in place of the old one, whose watchers end.
func (c *Cache) load(ctx context.Context, cause error) error {
	old := c.world.Load()
	w, err := c.list(ctx, old)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	c.budget.settle(c, w.count())
	if old != nil {
		defer func() { c.budget.settle(c, old.retire(c.world.Load())) }()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = false
	if old == nil || old.epoch != w.epoch {
		c.pending.clear()
		c.seen.Store(0) // a head of the lost past says nothing
	}
	c.sawHead(w.revision())
	c.world.Store(w)
	c.past.clear()
	if old == nil {
		close(c.ready)
	} else {
		old.end(fmt.Errorf("cache loaded afresh (%v): %w", cause, storage.ErrCompacted))
		if c.metrics != nil {
			c.metrics.reloads.Inc()
		}
	}
	c.moved.ring()
	return c.applyPending(w)
}

// list reads everything at one revision. When that revision is compacted away under it, or the epoch changes, it
// starts over.
func (c *Cache) list(ctx context.Context, old *world) (*world, error) {
	for {
		w, err := c.listOnce(ctx, old)
		if errors.Is(err, errReload) || errors.Is(err, storage.ErrCompacted) {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			continue
		}
		return w, err
	}
}

func (c *Cache) listOnce(ctx context.Context, old *world) (*world, error) {
	var w *world
	room := int64(math.MaxInt64)
	if b := c.budget; b.max > 0 {
		room = b.max - b.max/sweepPart - b.Kept()
	}
	for p, err := range c.pages(ctx) {
		if err != nil {
			return nil, err
		}
		if w == nil {
			w = newWorld(p.Position, c.cfg.RingBytes, int64(c.cfg.RingEntries))
			w.source = c.source(old, w.epoch)
		} else if p.Epoch != w.epoch {
			return nil, errReload
		}
		var r *resource
		for i := range p.Objects {
			o := &p.Objects[i]
			if r == nil || r.name != o.Resource {
				r = w.resource(o.Resource)
			}
			e := c.entry(o, r, old)
			if room -= int64(e.size); room < 0 && e.mode.Load()&counted == 0 {
				e.data.Store(nil) // nobody has it yet
			}
			r.tree.Load(e)
		}
		w.objects.Add(int64(len(p.Objects)))
	}
	for _, r := range *w.resources.Load() {
		r.version.Store(&version{tree: r.tree.Copy(), rev: w.start})
	}
	return w, nil
}

// entry makes the entry of a listed object. Within an epoch a revision is one state, so what is already in memory,
// with its aux value, is used again.
func (c *Cache) entry(o *storage.Object, r *resource, old *world) *Entry {
	if old != nil && old.epoch == r.world.epoch {
		if was := old.find(o.Resource); was != nil {
			if e := old.get(was.version.Load().tree, o.Namespace, o.Name); e != nil && e.Revision == o.Revision {
				return e
			}
		}
	}
	return newEntry(r.world.source, r.key(o.Key), o.Revision, o.Data)
}

// source is that of an epoch's entries.
func (c *Cache) source(old *world, epoch uint64) *source {
	if old != nil && old.epoch == epoch {
		return old.source
	}
	return &source{cache: c}
}

// count marks what is in memory as counted, and returns its bytes.
func (w *world) count() (bytes int64) {
	for _, r := range *w.resources.Load() {
		r.version.Load().tree.Scan(func(e *Entry) bool {
			if e.Resident() {
				bytes += e.count()
			}
			return true
		})
	}
	return bytes
}

// retire undoes count for what is not in the world that came after, and returns what to account for.
func (w *world) retire(next *world) (bytes int64) {
	for name, r := range *w.resources.Load() {
		is := next.find(name)
		r.version.Load().tree.Scan(func(e *Entry) bool {
			if is == nil || next.get(is.version.Load().tree, e.Namespace, e.Name) != e {
				bytes += e.uncount(superseded)
			}
			return true
		})
	}
	return bytes
}
