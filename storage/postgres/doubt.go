package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowlock-io/rowlock/storage"
)

// traces is what rowlock_give_up returns: the changes that a commit left in the log.
type traces struct {
	status                       int32
	epoch, epochStart            *int64
	at                           *time.Time
	revisions                    []int64
	resources, namespaces, names []string
}

// settle finds out what became of a commit whose answer was lost. When it was not found, it has not happened and never
// will: the database refuses it from then on, so that nobody has to wait for it to arrive. The error is ErrUnknown when ctx
// ended first.
func (s *Store) settle(ctx context.Context, what string, origin int64, known storage.Revision, req *request) (done storage.Committed, found bool, err error) {
	unknown := func(why error) error { return fmt.Errorf("%s: %w: %w", what, storage.ErrUnknown, why) }
	for try := 1; ; try++ {
		var t traces
		err := s.db.once(ctx, func(c *pgxpool.Conn) error {
			return c.QueryRow(ctx, s.db.sql.GiveUp, s.db.args(s.id, origin, int64(known), s.db.lockTimeout())...).
				Scan(&t.status, &t.epoch, &t.epochStart, &t.at, &t.revisions, &t.resources, &t.namespaces, &t.names)
		})
		switch {
		case err == nil && t.status == statusGone:
			return done, false, s.gone(what)
		case err == nil && t.status == statusGivenUp:
			return done, false, nil
		case err == nil:
			done, err := s.rebuild(ctx, what, &t, req)
			if err != nil {
				return done, false, unknown(err)
			}
			return done, true, nil
		}
		// Whatever the trouble is, only the end of ctx is a reason to leave the caller in doubt.
		s.db.again(ctx, 1, err)
		if !wait(ctx, min(time.Duration(try)*50*time.Millisecond, time.Second)) {
			return done, false, unknown(ended(ctx, what))
		}
	}
}

// rebuild makes the answer that was lost. Ops that are in the log succeeded; why the others failed is read from the
// state that the commit met.
func (s *Store) rebuild(ctx context.Context, what string, t *traces, req *request) (storage.Committed, error) {
	revisions := make(map[storage.Key]storage.Revision, len(t.revisions))
	for i, rev := range t.revisions {
		key := storage.Key{Resource: t.resources[i], Namespace: t.namespaces[i], Name: t.names[i]}
		revisions[key] = storage.Revision(rev)
	}
	first, last := t.revisions[0], t.revisions[len(t.revisions)-1]
	done := storage.Committed{
		Before:  storage.Position{Epoch: uint64(*t.epoch), Revision: storage.Revision(first - 1)},
		Head:    storage.Revision(last),
		Time:    *t.at,
		Results: make([]storage.Result, len(req.ops)),
	}
	if first <= *t.epochStart {
		done.Before.Epoch-- // the server has restarted since
	}
	for i := range req.ops {
		op := &req.ops[i]
		if rev, ok := revisions[op.Key]; ok {
			done.Results[i].Revision = rev
			continue
		}
		err := s.whyNot(ctx, op, done.Before.Revision)
		if err == nil {
			return done, fmt.Errorf("%s: op %d on %s is not in the log though it had to succeed", what, i, op.Key)
		}
		if !refusal(err) {
			return done, err
		}
		done.Results[i].Err = err
	}
	return done, nil
}

// whyNot judges an op by the state at a revision.
func (s *Store) whyNot(ctx context.Context, op *storage.Op, at storage.Revision) error {
	if len(op.Data) > storage.MaxObjectBytes {
		return storage.Judge(op, 0)
	}
	obj, err := s.Get(ctx, op.Key, at)
	switch {
	case err == nil || errors.Is(err, storage.ErrNotFound):
		return storage.Judge(op, obj.Revision)
	case !errors.Is(err, storage.ErrCompacted):
		return err
	case op.Verb == storage.Create:
		return fmt.Errorf("%w: %s", storage.ErrExists, op.Key)
	default:
		// It failed, and why is compacted away. A conflict makes the caller look again.
		return fmt.Errorf("%w: %s", storage.ErrConflict, op.Key)
	}
}

func refusal(err error) bool {
	for _, e := range []error{storage.ErrExists, storage.ErrNotFound, storage.ErrConflict, storage.ErrTooLarge} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
