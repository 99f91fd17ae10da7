package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

const (
	// pageSize is how many objects or changes are read at a time.
	pageSize = 1000

	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// errReload: the world and the log do not fit together any more.
var errReload = errors.New("cache must load afresh")

// Run loads the present and then follows the log until ctx ends, when it returns nil, or the store is closed, when it
// returns storage.ErrClosed. While the database is away it tries again, ever less often up to every 5 s. All watchers
// and waiters end with storage.ErrClosed when it returns. It must be called once.
func (c *Cache) Run(ctx context.Context) error {
	defer c.close()
	c.budget.add(c)
	if c.metrics != nil {
		c.metrics.add(c)
		defer c.metrics.remove(c)
	}
	back := backoff{log: c.log}
	full := true
	for {
		err := c.step(ctx, full)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, storage.ErrClosed):
			return fmt.Errorf("follow the log: %w", err)
		case err != nil:
			if !back.wait(ctx, err) {
				return nil
			}
			full = true
			continue
		}
		back.reset()
		select {
		case <-ctx.Done():
			return nil
		case <-c.store.Wake():
			full = true
		case <-c.wakeLog:
			full = true
		case <-c.wakeGap:
			full = false
		}
	}
}

// close ends everything that depends on the cache.
func (c *Cache) close() {
	c.endLife()
	c.budget.remove(c)
	c.mu.Lock()
	c.closed = true
	w := c.world.Load()
	if w != nil {
		w.end(storage.ErrClosed)
	}
	c.mu.Unlock()
	c.past.clear()
	c.wg.Wait()
}

// step brings the cache up to date: the head when full, else just past the pending commits.
func (c *Cache) step(ctx context.Context, full bool) error {
	if c.world.Load() == nil {
		if err := c.load(ctx, nil); err != nil {
			return err
		}
		full = true
	}
	err := c.follow(ctx, full)
	if errors.Is(err, errReload) || errors.Is(err, storage.ErrCompacted) || errors.Is(err, storage.ErrFuture) {
		cause := err
		if err := c.load(ctx, cause); err != nil {
			return err
		}
		c.log.WarnContext(ctx, "Loaded the cache afresh", "reason", cause)
		return c.follow(ctx, true)
	}
	return err
}

// follow reads the log. Only the reader calls it, so the world does not change under it, though its revision may.
func (c *Cache) follow(ctx context.Context, full bool) error {
	for {
		w := c.world.Load()
		c.mu.Lock()
		if c.broken {
			c.mu.Unlock()
			return errReload
		}
		after := w.revision()
		limit := pageSize
		gap, waiting := c.pending.gap(after)
		c.mu.Unlock()
		if waiting {
			// Read the stretch in front of the pending commit only, not the commit itself.
			limit = min(limit, gap)
		} else if !full {
			return nil
		}
		b, err := c.store.Changes(ctx, after, limit)
		if err != nil {
			return fmt.Errorf("read changes after %d: %w", after, err)
		}
		if b.Epoch != w.epoch {
			return fmt.Errorf("epoch went from %d to %d: %w", w.epoch, b.Epoch, errReload)
		}
		c.sawHead(b.Revision)
		if err := c.advance(w, b); err != nil {
			return err
		}
		if len(b.Changes) == limit || bytes(&b) >= storage.MinBatchBytes {
			continue // there may be more
		}
		if !waiting {
			return nil
		}
		if b.Revision <= after {
			// Our own commit is ahead of what the log shows: only a driver that breaks CommitOrder does that.
			return fmt.Errorf("log ends at %d, before a commit of our own: %w", b.Revision, storage.ErrBusy)
		}
	}
}

func bytes(b *storage.Batch) (n int) {
	for i := range b.Changes {
		n += len(b.Changes[i].Data) + len(b.Changes[i].Prev)
	}
	return n
}

// advance publishes what of a batch is news, and then the pending commits that follow on it.
func (c *Cache) advance(w *world, b storage.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return errReload
	}
	at := w.revision()
	if b.Revision > at {
		rows := make([]row, 0, len(b.Changes))
		for i := range b.Changes {
			ch := &b.Changes[i]
			if ch.Revision <= at {
				continue // Apply was faster
			}
			rows = append(rows, row{
				key: ch.Key, rev: ch.Revision, prevRev: ch.PrevRevision, verb: ch.Verb,
				data: ch.Data, time: ch.Time, aux: c.pending.aux(ch.Revision),
			})
		}
		if err := c.publish(w, rows, b.Revision); err != nil {
			return err
		}
	}
	return c.applyPending(w)
}

// publish publishes into the world and tells those who wait for the position. The caller holds mu.
func (c *Cache) publish(w *world, rows []row, to storage.Revision) error {
	err := w.publish(rows, to)
	c.budget.settle(c, w.kept)
	w.kept = 0
	c.budget.relieve(c)
	if err != nil {
		c.broken = true
		return fmt.Errorf("%w: %w", errReload, err)
	}
	c.sawHead(to)
	if c.waiters.Load() > 0 {
		c.moved.ring()
	}
	return nil
}

func (c *Cache) sawHead(rev storage.Revision) {
	for {
		old := c.seen.Load()
		if old >= uint64(rev) || c.seen.CompareAndSwap(old, uint64(rev)) {
			return
		}
	}
}
