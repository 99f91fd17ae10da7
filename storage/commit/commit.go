// Package commit gathers concurrent writes of one replica into few transactions: while one commit is at the disk, the
// next one fills. Nobody waits for a timer: a write that comes alone is committed at once.
//
// It promises that each write is judged singly and answered once; that two writes to one key never share a commit and
// keep their order; that what waits is bounded; and that a caller who gives up takes nothing away from the others.
package commit

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// Config bounds a Committer. Zero values mean the defaults.
type Config struct {
	MaxOps   int // ops in one commit; 256
	MaxBytes int // bytes of Data in one commit, unless a single op has more; 4 MiB

	// What may wait for its turn, or the caller gets ErrBusy: ops; 8192, and bytes of their Data; 64 MiB.
	MaxQueuedOps   int
	MaxQueuedBytes int

	// Timeout ends a commit that the database does not answer; 30 s.
	Timeout time.Duration

	// Applied is told of every commit before its callers are answered, in commit order, from one goroutine. ops and
	// aux are what the callers gave. It must not keep the outer slices.
	Applied func(ops []storage.Op, aux []any, done storage.Committed)

	// Trace, when not nil, is told of each transaction once for every write in it that somebody still waits for, with that
	// caller's context and the number of writes. What it returns, when not nil, is told of the end.
	Trace func(ctx context.Context, ops int) (end func(error))

	Log     *slog.Logger // nil: silent
	Metrics *Metrics     // nil: none
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&c.MaxOps, 256},
		{&c.MaxBytes, 4 << 20},
		{&c.MaxQueuedOps, 8192},
		{&c.MaxQueuedBytes, 64 << 20},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Applied == nil {
		c.Applied = func([]storage.Op, []any, storage.Committed) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Committer commits to one store. Any number of goroutines may use it; one has to be in Run.
type Committer struct {
	store storage.Store
	cfg   Config
	queue queue

	// lastBatch is the size of the commit before; only Run uses it.
	lastBatch int
}

// New returns a Committer. Writes wait until Run is called.
func New(store storage.Store, cfg Config) *Committer {
	cfg = cfg.withDefaults()
	return &Committer{
		store: store,
		cfg:   cfg,
		queue: queue{maxOps: cfg.MaxQueuedOps, maxBytes: cfg.MaxQueuedBytes, kick: make(chan struct{}, 1)},
	}
}

// Commit makes one write, together with whatever else is waiting. aux goes to Config.Applied.
//
// The error is the result's: what the write was refused with (ErrExists, ErrNotFound, ErrConflict, ErrTooLarge), or
// what happened to the whole commit (ErrBusy, ErrUnknown), or ErrClosed after Run ended. When ctx ends before the
// write is part of a commit it is dropped and the error is ctx's; when it ends later the error is ErrUnknown too.
func (c *Committer) Commit(ctx context.Context, op storage.Op, aux any) (storage.Result, error) {
	w, err := c.submit(ctx, op, aux)
	if err != nil {
		return storage.Result{Err: err}, err
	}
	r := c.wait(ctx, w)
	return r, r.Err
}

// CommitAll makes many writes, not all in one commit. Results are in the order of ops; ops on one key are made in
// their order. The error is the first that is not about a single op (then later ops may have been left out, and say so).
func (c *Committer) CommitAll(ctx context.Context, ops []storage.Op, aux []any) ([]storage.Result, error) {
	results := make([]storage.Result, len(ops))
	waiting := make([]*write, 0, min(len(ops), c.cfg.MaxOps))
	for start := 0; start < len(ops); start += c.cfg.MaxOps {
		end := min(start+c.cfg.MaxOps, len(ops))
		waiting = waiting[:0]
		var failed error
		for i := start; i < end && failed == nil; i++ {
			var a any
			if i < len(aux) {
				a = aux[i]
			}
			w, err := c.submit(ctx, ops[i], a)
			if err != nil {
				failed = err
				continue
			}
			waiting = append(waiting, w)
		}
		for i, w := range waiting {
			r := c.wait(ctx, w)
			results[start+i] = r
			if failed == nil && concernsAll(r.Err) {
				failed = r.Err
			}
		}
		if failed != nil {
			for i := start + len(waiting); i < len(ops); i++ {
				results[i].Err = failed
			}
			return results, failed
		}
	}
	return results, nil
}

func (c *Committer) submit(ctx context.Context, op storage.Op, aux any) (*write, error) {
	// Checked here, because a malformed op would have its whole commit refused.
	if err := storage.CheckOps([]storage.Op{op}); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	w := &write{ctx: ctx, op: op, aux: aux, done: make(chan struct{})}
	if err := c.queue.add(w); err != nil {
		c.cfg.Metrics.refused()
		return nil, err
	}
	return w, nil
}

func (c *Committer) wait(ctx context.Context, w *write) storage.Result {
	select {
	case <-w.done:
		return w.result
	case <-ctx.Done():
	}
	if c.queue.drop(w) {
		return storage.Result{Err: fmt.Errorf("commit of %s: not begun: %w", w.op.Key, context.Cause(ctx))}
	}
	select {
	case <-w.done: // answered meanwhile
		return w.result
	default:
		return storage.Result{Err: fmt.Errorf("commit of %s: %w: %w", w.op.Key, storage.ErrUnknown, context.Cause(ctx))}
	}
}
