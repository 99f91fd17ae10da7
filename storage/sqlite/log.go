package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// maxBatchBytes ends a batch of changes early, so that a long stretch of large objects does not fill the memory.
const maxBatchBytes = 16 << 20

// Changes returns a stretch of the log.
func (s *Store) Changes(ctx context.Context, after storage.Revision, limit int) (storage.Batch, error) {
	what := fmt.Sprintf("changes after %d", after)
	if b, ok, err := s.recent(ctx, what, after, limit); ok || err != nil {
		return b, err
	}
	v, err := s.view(ctx, what)
	if err != nil {
		return storage.Batch{}, err
	}
	defer v.done()
	if err := v.check(after); err != nil {
		return storage.Batch{}, fmt.Errorf("%s: %w", what, err)
	}
	b := storage.Batch{Position: v.pos}
	if after < v.disk {
		whole, err := v.logged(ctx, &b, after, limit)
		if err != nil {
			return storage.Batch{}, explain(what, err)
		}
		if !whole {
			b.Revision = b.Changes[len(b.Changes)-1].Revision
			return b, nil
		}
	}
	appendTail(&b, v.tail, after, limit)
	return b, nil
}

// recent answers without the disk what is still in memory, and that there is nothing new.
func (s *Store) recent(ctx context.Context, what string, after storage.Revision, limit int) (storage.Batch, bool, error) {
	c := s.c
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := s.usable(ctx, what); err != nil {
		return storage.Batch{}, false, err
	}
	b := storage.Batch{Position: c.pos}
	if after == c.pos.Revision {
		return b, true, nil
	}
	// A change after the tail may be on disk already while its writer has not said so (see seen): the batch speaks
	// for the tail only.
	if len(c.tail) == 0 || after < c.flushed || after >= c.tail[len(c.tail)-1].Revision {
		return storage.Batch{}, false, nil
	}
	b.Revision = c.tail[len(c.tail)-1].Revision
	appendTail(&b, c.tail, after, limit)
	return b, true, nil
}

func appendTail(b *storage.Batch, tail []storage.Change, after storage.Revision, limit int) {
	for _, ch := range tail {
		if ch.Revision <= after {
			continue
		}
		if limit > 0 && len(b.Changes) == limit {
			b.Revision = b.Changes[limit-1].Revision
			return
		}
		b.Changes = append(b.Changes, ch)
	}
}

// logged appends the changes on disk to a batch; false when some are left.
func (v *view) logged(ctx context.Context, b *storage.Batch, after storage.Revision, limit int) (bool, error) {
	ask := int64(-1) // SQLite: no limit
	if limit > 0 {
		ask = int64(limit) + 1 // one more tells whether some are left
	}
	r, err := v.r.query(ctx, v.c.db.st.ListChanges, v.c.id, int64(after), ask)
	if err != nil {
		return false, err
	}
	defer r.close()
	size := 0
	for {
		ok, err := r.next()
		if err != nil || !ok {
			return true, err
		}
		if (limit > 0 && len(b.Changes) == limit) || size > maxBatchBytes {
			return false, nil
		}
		ch := storage.Change{
			Key:          storage.Key{Resource: text(r.dest[0]), Namespace: text(r.dest[1]), Name: text(r.dest[2])},
			Revision:     revision(r.dest[3]),
			Verb:         storage.Verb(integer(r.dest[4])),
			Time:         time.UnixMicro(integer(r.dest[5])),
			Data:         blob(r.dest[6]),
			Prev:         blob(r.dest[7]),
			PrevRevision: revision(r.dest[8]),
		}
		if ch.Verb != storage.Delete {
			ch.Data = notNil(ch.Data)
		}
		if ch.Verb != storage.Create {
			ch.Prev = notNil(ch.Prev)
		}
		size += len(ch.Data) + len(ch.Prev)
		b.Changes = append(b.Changes, ch)
	}
}

// Floor returns the compaction floor, or the start of the epoch where that is newer.
func (s *Store) Floor(ctx context.Context) (storage.Revision, error) {
	v, err := s.view(ctx, "floor")
	if err != nil {
		return 0, err
	}
	defer v.done()
	return v.floor, nil
}

// Horizon returns what retention lets go. Times and running totals only grow along the log, so it is searched by
// halving and not by reading it. Relaxed changes that are not on disk yet are never let go.
func (s *Store) Horizon(ctx context.Context, maxAge time.Duration, maxBytes int64) (storage.Revision, error) {
	v, err := s.view(ctx, "horizon")
	if err != nil {
		return 0, err
	}
	defer v.done()
	now := time.Now()
	total := v.total
	for i := range v.tail {
		total += changeSize(&v.tail[i])
	}
	// low is let go (or the floor), high is kept.
	low, high := v.floor, v.disk+1
	for low+1 < high {
		middle := low + (high-low)/2
		var row [3]driver.Value
		found, err := v.r.one(ctx, row[:], v.c.db.st.ChangeFrom, v.c.id, int64(middle))
		if err != nil {
			return 0, explain("horizon", err)
		}
		if !found {
			high = middle // a gap at the end
			continue
		}
		rev, at, before := revision(row[0]), time.UnixMicro(integer(row[1])), integer(row[2])
		old := maxAge > 0 && now.Sub(at) > maxAge
		large := maxBytes > 0 && total-before > maxBytes
		if old || large {
			low = rev
		} else {
			high = middle
		}
	}
	return low, nil
}
