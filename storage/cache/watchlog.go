package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/rowlock-io/rowlock/storage"
)

// logPage is how many changes a watcher that fell behind reads at a time.
const logPage = 500

// readLog reads one page of the log for a watcher that the history in memory has left behind. While the database is
// away it keeps trying: a slow client should not notice more than a fast one.
func (w *Watcher) readLog(ctx context.Context) (Batch, error) {
	none := func(err error) (Batch, error) { return Batch{Through: w.after}, err }
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.reading.Store(&cancel)
	defer w.reading.Store(nil)
	stop := context.AfterFunc(w.cache.life, cancel)
	defer stop()

	if err := w.err(); err != nil {
		return none(err)
	}
	// A few at a time: a crowd that comes back after a restart must not take the database from everybody else.
	select {
	case w.cache.slow <- struct{}{}:
		defer func() { <-w.cache.slow }()
	case <-ctx.Done():
		return none(w.why(ctx))
	}
	back := backoff{log: slog.New(slog.DiscardHandler)} // the log reader says it
	for {
		if err := w.err(); err != nil {
			return none(err)
		}
		b, err := w.cache.store.Changes(ctx, w.after, logPage)
		switch {
		case err == nil && b.Epoch != w.world.epoch:
			signal(w.cache.wakeLog)
			return none(fmt.Errorf("watch after %d: epoch changed: %w", w.after, storage.ErrCompacted))
		case err == nil && b.Revision <= w.after:
			return none(fmt.Errorf("watch after %d: the log ends there, the cache is at %d: %w",
				w.after, w.world.revision(), storage.ErrBusy))
		case err == nil:
			return w.convert(&b), nil
		case ctx.Err() != nil:
			return none(w.why(ctx))
		case errors.Is(err, storage.ErrFuture):
			// The cache has been further than the log is now: it was set back.
			signal(w.cache.wakeLog)
			return none(fmt.Errorf("watch after %d: log was set back: %w", w.after, storage.ErrCompacted))
		case errors.Is(err, storage.ErrCompacted), errors.Is(err, storage.ErrClosed):
			return none(fmt.Errorf("watch after %d: %w", w.after, err))
		}
		if !back.wait(ctx, err) {
			return none(w.why(ctx))
		}
	}
}

// why tells what ended a read: the watcher, the cache, or the caller.
func (w *Watcher) why(ctx context.Context) error {
	if err := w.err(); err != nil {
		return err
	}
	if w.cache.life.Err() != nil {
		return storage.ErrClosed
	}
	return ctx.Err()
}

// convert makes a batch of what the log gave, as far as the cache itself has come: what watchers show, a Get must find.
func (w *Watcher) convert(b *storage.Batch) Batch {
	through := min(b.Revision, w.world.revision())
	var changes []Change
	var last map[storage.Key]*Entry // states that later changes of the page replace
	for i := range b.Changes {
		ch := &b.Changes[i]
		if ch.Revision > through {
			break
		}
		if !w.sel.Matches(ch.Key) {
			continue
		}
		c := Change{Verb: ch.Verb, Time: ch.Time}
		if ch.Verb != storage.Create {
			if c.Prev = last[ch.Key]; c.Prev == nil {
				c.Prev = NewEntry(storage.Object{Key: ch.Key, Revision: ch.PrevRevision, Data: ch.Prev})
			}
		}
		data := ch.Data
		if ch.Verb == storage.Delete {
			data = ch.Prev
		} else if r := w.world.find(ch.Resource); r != nil {
			if e := w.world.get(r.version.Load().tree, ch.Namespace, ch.Name); e != nil && e.Revision == ch.Revision {
				c.Entry = e
			}
		}
		if c.Entry == nil {
			c.Entry = NewEntry(storage.Object{Key: ch.Key, Revision: ch.Revision, Data: data})
		}
		if last == nil {
			last = make(map[storage.Key]*Entry)
		}
		last[ch.Key] = c.Entry
		changes = append(changes, c)
	}
	w.after = max(w.after, through)
	return Batch{Changes: changes, Through: w.after}
}
