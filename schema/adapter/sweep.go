package adapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
// for what is older than this process it asks the database, whose log has times. So no clocks are compared, a restart
// forgets nothing, and a control plane without such objects, or in which nothing happens, costs neither queries nor
// writes. Deletions are conditional on the revision, hence several replicas may sweep at the same time.
type Sweeper struct {
	backend Backend
	log     *slog.Logger
	targets []*target
	period  time.Duration
	marks   []mark // oldest first
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
	if cut == 0 && older(snap, w.marks[0].rev) {
		var err error
		if cut, err = w.expiredBefore(ctx, t.ttl); err != nil {
			return err
		}
	}
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
		ops = append(ops, storage.Op{Key: e.Key, Verb: storage.Delete, Expect: e.Revision, Relaxed: t.codec.Config().Relaxed})
		return len(ops) < sweepBatch || flush()
	})
	if failed == nil && flush() {
		t.swept = cut
	}
	return failed
}

// older tells whether there is an object from before this process.
func older(snap cache.Snapshot, first storage.Revision) bool {
	found := false
	snap.Scan("", storage.Key{}, func(e *cache.Entry) bool {
		found = e.Revision <= first
		return !found
	})
	return found
}

// expiredBefore asks the log which revision was the newest a TTL ago. Below the compaction floor the log knows no
// times: there the answer is 0, until this process has lived for a TTL itself.
func (w *Sweeper) expiredBefore(ctx context.Context, ttl time.Duration) (storage.Revision, error) {
	rev, err := w.backend.Store.Horizon(ctx, ttl, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for what is older than %s: %w", ttl, err)
	}
	floor, err := w.backend.Store.Floor(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask for the compaction floor: %w", err)
	}
	if rev <= floor {
		return 0, nil
	}
	return rev, nil
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
