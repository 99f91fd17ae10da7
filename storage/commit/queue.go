package commit

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rowlock-io/rowlock/storage"
)

// write is one op on its way.
type write struct {
	ctx context.Context // the caller's; ends the write only while it waits
	op  storage.Op
	aux any

	taken, dropped bool // guarded by queue.mu

	done   chan struct{} // closed once result is set
	result storage.Result
}

func (w *write) answer(r storage.Result) {
	w.result = r
	close(w.done)
}

// concernsAll tells whether an error is about more than one op.
func concernsAll(err error) bool {
	if err == nil {
		return false
	}
	for _, single := range []error{storage.ErrExists, storage.ErrNotFound, storage.ErrConflict, storage.ErrTooLarge} {
		if errors.Is(err, single) {
			return false
		}
	}
	return true
}

// queue holds the writes that wait for their commit, first come first served.
type queue struct {
	maxOps, maxBytes int
	kick             chan struct{} // of one: something was added

	mu     sync.Mutex
	list   []*write
	ops    int // in list and not dropped
	bytes  int // of those
	closed bool
}

func (q *queue) add(w *write) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return fmt.Errorf("commit of %s: %w", w.op.Key, storage.ErrClosed)
	case q.ops >= q.maxOps || (q.ops > 0 && q.bytes+len(w.op.Data) > q.maxBytes):
		return fmt.Errorf("commit of %s: %w: %d writes of %d bytes are waiting", w.op.Key, storage.ErrBusy, q.ops, q.bytes)
	}
	q.list = append(q.list, w)
	q.ops++
	q.bytes += len(w.op.Data)
	select {
	case q.kick <- struct{}{}:
	default:
	}
	return nil
}

// drop takes a write back, unless it is already part of a commit or answered.
func (q *queue) drop(w *write) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.taken || w.dropped {
		return false
	}
	q.forget(w)
	return true
}

func (q *queue) forget(w *write) {
	if !w.dropped {
		w.dropped = true
		q.ops--
		q.bytes -= len(w.op.Data)
	}
}

// take moves the next commit's writes into b: in order, within the bounds, and at most one for each key. A second
// write to a key stays where it is in the queue, as do those behind the bounds.
func (q *queue) take(b *batch, maxOps, maxBytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := q.list[:0]
	size, full := 0, false
	for _, w := range q.list {
		if w.dropped {
			continue
		}
		if !full {
			if err := over(w.ctx); err != nil {
				// Its caller may not have noticed yet; after this answer it need not take the write back.
				q.forget(w)
				w.answer(storage.Result{Err: fmt.Errorf("commit of %s: not begun: %w", w.op.Key, err)})
				continue
			}
		}
		full = full || len(b.writes) == maxOps || (len(b.writes) > 0 && size+len(w.op.Data) > maxBytes)
		if full || b.has(w.op.Key) {
			kept = append(kept, w)
			continue
		}
		w.taken = true
		size += len(w.op.Data)
		q.ops--
		q.bytes -= len(w.op.Data)
		b.add(w)
	}
	clear(q.list[len(kept):]) // so that the garbage collector gets the rest
	q.list = kept
}

type whileKey struct{}

// While returns a context whose writes are dropped, as if it had ended, when over returns an error at the moment they would become
// part of a commit.
func While(ctx context.Context, over func() error) context.Context {
	return context.WithValue(ctx, whileKey{}, over)
}

func over(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if over, ok := ctx.Value(whileKey{}).(func() error); ok {
		return over()
	}
	return nil
}

// refuse answers the waiting writes that a commit has made impossible: they expect a revision older than the one which
// their key got just now. Left to the database, each of them would cost a commit of its own to learn the same, and the
// writers of one busy key would wait for one another's refusals.
func (q *queue) refuse(b *batch, results []storage.Result) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.list {
		i, ok := b.keys[w.op.Key]
		if !ok || w.dropped || results[i].Err != nil || w.op.Verb == storage.Create || w.op.Expect >= results[i].Revision {
			continue
		}
		now := results[i].Revision
		q.forget(w)
		w.answer(storage.Result{Err: fmt.Errorf("commit of %s: %w: revision %d was replaced by %d", w.op.Key, storage.ErrConflict, w.op.Expect, now)})
	}
}

// close refuses all further writes.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}
