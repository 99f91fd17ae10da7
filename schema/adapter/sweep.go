package adapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

const (
	// An object may outlive its time by a twentieth of it, within these bounds.
	sweepFraction  = 20
	minSweepPeriod = 50 * time.Millisecond
	maxSweepPeriod = time.Minute
	// sweepBatch is how many objects are deleted at a time.
	sweepBatch = 500
)

// Sweeper deletes objects of resources with a TTL when they have not changed for so long.
//
// When an object expires is written nowhere. Revisions are in the order of time, so it is enough to know which revision
// was the newest a TTL ago: what is not newer has expired. The Sweeper notes the cache's position from time to time;
// about the time before this process it asks the database once, whose log has times. So no clocks of replicas are
// compared, a restart forgets nothing, and a control plane without such objects, or in which nothing happens, costs
// neither queries nor writes. Deletions are conditional on the revision, hence several replicas may sweep at once.
type Sweeper struct {
	backend Backend
	log     *slog.Logger
	targets []*target
	period  time.Duration
	marks   []mark // oldest first
	seeded  bool   // marks reach back to before this process
}

type target struct {
	codec *object.Codec
	ttl   time.Duration
	swept storage.Revision // nothing at or below it is left
}

// mark says that every change up to a revision had happened at a time.
type mark struct {
	at  time.Time
	rev storage.Revision
}

// NewSweeper returns the Sweeper for those of the codecs that have a TTL.
func NewSweeper(b Backend, log *slog.Logger, codecs ...*object.Codec) *Sweeper {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &Sweeper{backend: b, log: log, period: maxSweepPeriod}
	for _, c := range codecs {
		if ttl := c.Config().TTL; ttl > 0 {
			w.targets = append(w.targets, &target{codec: c, ttl: ttl})
			w.period = min(w.period, max(ttl/sweepFraction, minSweepPeriod))
		}
	}
	return w
}

// Run sweeps until ctx ends.
func (w *Sweeper) Run(ctx context.Context) error {
	if len(w.targets) == 0 {
		<-ctx.Done()
		return nil
	}
	select {
	case <-w.backend.Cache.Ready():
	case <-ctx.Done():
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		w.mark()
		if err := w.seed(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("Ages of objects are not known yet, will try again", "error", err)
		}
		for _, t := range w.targets {
			if err := w.sweep(ctx, t); err != nil && ctx.Err() == nil {
				w.log.Warn("Expired objects were not deleted, will try again", "resource", t.codec.Resource(), "error", err)
			}
		}
		// Replicas drift apart, so that mostly one of them finds something to do.
		timer.Reset(w.period - time.Duration(rand.Int64N(int64(w.period/4))))
	}
}

// mark notes where the cache is and forgets what no target needs any more.
func (w *Sweeper) mark() {
	now := time.Now()
	if at := w.backend.Cache.Position().Revision; len(w.marks) == 0 || at > w.marks[len(w.marks)-1].rev {
		w.marks = append(w.marks, mark{at: now, rev: at})
	}
	var longest time.Duration
	for _, t := range w.targets {
		longest = max(longest, t.ttl)
	}
	for len(w.marks) > 1 && now.Sub(w.marks[1].at) >= longest {
		w.marks = w.marks[1:]
	}
}

// reached is the newest revision noted at least a TTL ago.
func (w *Sweeper) reached(ttl time.Duration) storage.Revision {
	now := time.Now()
	for i := len(w.marks) - 1; i >= 0; i-- {
		if now.Sub(w.marks[i].at) >= ttl {
			return w.marks[i].rev
		}
	}
	return 0
}

func (w *Sweeper) sweep(ctx context.Context, t *target) error {
	snap := w.backend.Cache.Snapshot(t.codec.Resource())
	if snap.Len() == 0 {
		return nil
	}
	cut := w.reached(t.ttl)
	if cut <= t.swept {
		return nil
	}
	var ops []storage.Op
	var failed error
	flush := func() bool {
		failed = w.delete(ctx, ops)
		ops = ops[:0]
		return failed == nil
	}
	snap.Scan("", storage.Key{}, func(e *cache.Entry) bool {
		if e.Revision > cut {
			return true
		}
		ops = append(ops, storage.Op{Key: e.Key, Verb: storage.Delete, Expect: e.Revision, Relaxed: true})
		return len(ops) < sweepBatch || flush()
	})
	if failed == nil && flush() {
		t.swept = cut
	}
	return failed
}

// seed makes marks of what the log knows about the time before this process, if there are objects from then. Below the
// compaction floor it knows no times: what is older still expires when this process has lived for a TTL itself.
func (w *Sweeper) seed(ctx context.Context) error {
	if w.seeded || len(w.marks) == 0 {
		return nil
	}
	var ages []time.Duration
	for _, t := range w.targets {
		if w.backend.Cache.Snapshot(t.codec.Resource()).Len() > 0 {
			for i := range sweepFraction {
				ages = append(ages, t.ttl-time.Duration(i)*t.ttl/sweepFraction)
			}
		}
	}
	if len(ages) == 0 {
		w.seeded = true
		return nil
	}
	slices.Sort(ages)
	floor, err := w.backend.Store.Floor(ctx)
	if err != nil {
		return fmt.Errorf("ask for the compaction floor: %w", err)
	}
	var past []mark // newest first
	for _, age := range slices.Compact(ages) {
		asked := time.Now()
		rev, err := w.backend.Store.Horizon(ctx, age, 0)
		if err != nil {
			return fmt.Errorf("ask for what is older than %s: %w", age, err)
		}
		if rev <= floor {
			break
		}
		past = append(past, mark{at: asked.Add(-age), rev: rev})
	}
	slices.Reverse(past)
	w.marks = append(past, w.marks...)
	w.seeded = true
	return nil
}

func (w *Sweeper) delete(ctx context.Context, ops []storage.Op) error {
	if len(ops) == 0 {
		return nil
	}
	results, err := w.backend.Committer.CommitAll(ctx, ops, nil)
	if err != nil {
		return fmt.Errorf("delete %d expired objects: %w", len(ops), err)
	}
	for i, r := range results {
		// Changed meanwhile, or deleted by somebody else: both are fine.
		if r.Err != nil && !errors.Is(r.Err, storage.ErrConflict) && !errors.Is(r.Err, storage.ErrNotFound) {
			return fmt.Errorf("delete expired %s: %w", ops[i].Key, r.Err)
		}
	}
	return nil
}
