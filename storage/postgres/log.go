package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowlock-io/rowlock/storage"
)

// batchBytes bounds one answer of Changes, unless its first change alone is larger.
const batchBytes = 16 << 20

// Changes returns a stretch of the log.
func (s *Store) Changes(ctx context.Context, after storage.Revision, limit int) (storage.Batch, error) {
	what := fmt.Sprintf("changes after %d", after)
	ctx, end, err := s.begin(ctx, what)
	if err != nil {
		return storage.Batch{}, err
	}
	defer end()
	var b storage.Batch
	err = s.current(ctx, what, func() (bool, error) {
		w, m, changes, err := s.stretch(ctx, what, after, limit)
		if err != nil || !w.current {
			return w.current, err
		}
		if err := w.covers(what, after); err != nil {
			return true, err
		}
		b = storage.Batch{Position: storage.Position{Epoch: w.epoch, Revision: w.head}, Changes: changes}
		if cut(changes, limit) {
			b.Revision = changes[len(changes)-1].Revision
		}
		s.setMark(m)
		return true, nil
	})
	if err != nil {
		return storage.Batch{}, err
	}
	return b, nil
}

// cut tells whether a stretch may have been ended by one of its bounds. If in doubt it was: then the next one is empty.
func cut(changes []storage.Change, limit int) bool {
	if limit > 0 && len(changes) >= limit {
		return true
	}
	bytes := 0
	for i := range changes {
		ch := &changes[i]
		bytes += len(ch.Data) + len(ch.Prev) + len(ch.Resource) + len(ch.Namespace) + len(ch.Name)
	}
	return bytes >= batchBytes
}

func (s *Store) stretch(ctx context.Context, what string, after storage.Revision, limit int) (w where, m mark, changes []storage.Change, err error) {
	var most *int64
	if limit > 0 {
		n := int64(limit)
		most = &n
	}
	args := []any{s.id, int64(after), most, s.segmentAfter(after), int64(batchBytes)}
	err = s.db.query(ctx, what, func(c *pgxpool.Conn) error {
		changes = nil
		var in whereRow
		var r changeRow
		rows, err := c.Query(ctx, s.db.sql.Changes, s.db.args(args...)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		there := false
		for rows.Next() {
			there = true
			r.data, r.prev = nil, nil // each row its own
			if err := rows.Scan(&in.head, &in.epoch, &in.floor, &in.current, &m.segment, &r.revision, &r.verb,
				&r.resource, &r.namespace, &r.name, &r.data, &r.prev, &r.prevRevision, &r.at); err != nil {
				return err
			}
			w = in.where()
			if !r.revision.Valid {
				break // the row that is there when there are no changes
			}
			changes = append(changes, r.change())
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
		if !there {
			return s.gone(what)
		}
		return nil
	})
	m.revision = w.head
	byRevision := func(a, b storage.Change) int { return cmp.Compare(a.Revision, b.Revision) }
	// They come in order, but SQL does not promise it for a join.
	if !slices.IsSortedFunc(changes, byRevision) {
		slices.SortFunc(changes, byRevision)
	}
	return w, m, changes, err
}

func (s *Store) segmentAfter(rev storage.Revision) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rev >= s.mark.revision {
		return s.mark.segment
	}
	return 0
}

func (s *Store) setMark(m mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.revision > s.mark.revision {
		s.mark = m
	}
}

// Floor returns the compaction floor, or the start of the epoch where that is later.
func (s *Store) Floor(ctx context.Context) (floor storage.Revision, err error) {
	const what = "floor"
	ctx, end, err := s.begin(ctx, what)
	if err != nil {
		return 0, err
	}
	defer end()
	err = s.current(ctx, what, func() (current bool, err error) {
		err = s.row(ctx, what, s.db.sql.Floor, []any{s.id}, &floor, &current)
		return current, err
	})
	return floor, err
}

// Horizon returns what retention lets go. A change counts with the bytes of both its states and its key.
func (s *Store) Horizon(ctx context.Context, maxAge time.Duration, maxBytes int64) (storage.Revision, error) {
	const what = "horizon"
	ctx, end, err := s.begin(ctx, what)
	if err != nil {
		return 0, err
	}
	defer end()
	var seconds *float64
	if maxAge > 0 {
		n := maxAge.Seconds()
		seconds = &n
	}
	var bytes *int64
	if maxBytes > 0 {
		bytes = &maxBytes
	}
	var rev *int64
	if err := s.row(ctx, what, s.db.sql.Horizon, []any{s.id, seconds, bytes}, &rev); err != nil {
		return 0, err
	}
	if rev == nil {
		return 0, s.gone(what)
	}
	return storage.Revision(*rev), nil
}

// Compact raises the floor at once, and then drops what nobody can ask for any more.
func (s *Store) Compact(ctx context.Context, through storage.Revision) error {
	what := fmt.Sprintf("compact through %d", through)
	ctx, end, err := s.begin(ctx, what)
	if err != nil {
		return err
	}
	defer end()
	head, err := s.Head(ctx)
	if err != nil {
		return err
	}
	if through > head.Revision {
		return fmt.Errorf("%s: %w: head is %d", what, storage.ErrFuture, head.Revision)
	}
	var rev int64
	if err := s.row(ctx, what, s.db.sql.Compact, []any{s.id, int64(through)}, &rev); err != nil {
		return err
	}
	s.db.tidy(ctx, false)
	return nil
}
