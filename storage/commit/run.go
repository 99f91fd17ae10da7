package commit

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// batch is one commit being gathered. It is used again for the next.
type batch struct {
	writes []*write
	ops    []storage.Op
	aux    []any
	keys   map[storage.Key]int // where in ops
}

func (b *batch) reset() {
	clear(b.writes)
	clear(b.ops)
	clear(b.aux)
	clear(b.keys)
	b.writes, b.ops, b.aux = b.writes[:0], b.ops[:0], b.aux[:0]
}

func (b *batch) has(k storage.Key) bool {
	_, ok := b.keys[k]
	return ok
}

func (b *batch) add(w *write) {
	b.writes = append(b.writes, w)
	b.ops = append(b.ops, w.op)
	b.aux = append(b.aux, w.aux)
	b.keys[w.op.Key] = len(b.ops) - 1
}

// Run makes the commits until ctx ends. Then it refuses new writes, commits those that wait, and returns. It always
// returns nil: a database that is away is every caller's ErrBusy and not the end of the committer.
func (c *Committer) Run(ctx context.Context) error {
	b := &batch{keys: map[storage.Key]int{}}
	for {
		select {
		case <-ctx.Done():
			c.drain(ctx, b)
			return nil
		case <-c.queue.kick:
		}
		for ctx.Err() == nil {
			if c.lastBatch > 1 {
				// The callers just answered are about to come back with their next writes. Without this one step
				// aside, the first of them would get a commit of its own and the others would wait for it.
				runtime.Gosched()
			}
			if n, _ := c.next(ctx, b); n == 0 {
				break
			}
		}
	}
}

// drain commits what waits; after a commit that failed as a whole the rest gets the same answer.
func (c *Committer) drain(ctx context.Context, b *batch) {
	c.queue.close()
	for {
		n, err := c.next(ctx, b)
		if n == 0 {
			return
		}
		for err != nil {
			b.reset()
			c.queue.take(b, c.cfg.MaxOps, c.cfg.MaxBytes)
			if len(b.writes) == 0 {
				return
			}
			b.fail(err)
		}
	}
}

// next makes one commit of what waits and answers its callers. It returns how many there were and why the commit
// failed as a whole.
func (c *Committer) next(ctx context.Context, b *batch) (int, error) {
	b.reset()
	c.queue.take(b, c.cfg.MaxOps, c.cfg.MaxBytes)
	c.lastBatch = len(b.writes)
	if len(b.writes) == 0 {
		return 0, nil
	}
	// Not the callers' contexts: the answer belongs to all of them. Not Run's either: stopping must not leave an
	// outcome unknown.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
	defer cancel()
	traced := c.trace(b)
	start := time.Now()
	done, err := c.store.Commit(ctx, b.ops)
	if err == nil && len(done.Results) != len(b.ops) {
		err = fmt.Errorf("%w: the store answered %d of %d ops", storage.ErrUnknown, len(done.Results), len(b.ops))
	}
	c.cfg.Metrics.committed(len(b.ops), time.Since(start), err)
	for _, end := range traced {
		end(err)
	}
	if err != nil {
		c.cfg.Log.Warn("Commit failed", "ops", len(b.ops), "err", err)
		b.fail(err)
		return c.lastBatch, err
	}
	c.cfg.Applied(b.ops, b.aux, done)
	c.queue.refuse(b, done.Results)
	for i, w := range b.writes {
		w.answer(done.Results[i])
	}
	return c.lastBatch, nil
}

// trace tells of a transaction that begins, and returns who wants to know of its end.
func (c *Committer) trace(b *batch) (ends []func(error)) {
	if c.cfg.Trace == nil {
		return nil
	}
	for _, w := range b.writes {
		if end := c.cfg.Trace(w.ctx, len(b.ops)); end != nil {
			ends = append(ends, end)
		}
	}
	return ends
}

func (b *batch) fail(err error) {
	for _, w := range b.writes {
		w.answer(storage.Result{Err: err})
	}
	b.ops = nil // a store that was cut off may still be looking at it
}
