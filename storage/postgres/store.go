package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowlock-io/rowlock/storage"
)

// Store is a handle on one cluster.
type Store struct {
	db     *Database
	id     int64
	name   string
	wake   chan struct{}
	closed atomic.Bool

	mu   sync.Mutex
	seen storage.Revision // the head up to which foreign commits were signalled
	mark mark             // where the log goes on
}

// mark says that changes above a revision are in a segment or in later ones. It is taken from the cluster's row,
// not from the log: rows of the log may be moved to later segments.
type mark struct {
	revision storage.Revision
	segment  int32
}

var _ storage.Store = (*Store)(nil)

// begin is Database.begin for calls on this handle.
func (s *Store) begin(ctx context.Context, what string) (context.Context, func(), error) {
	if s.closed.Load() {
		return nil, nil, fmt.Errorf("%s: %w", what, storage.ErrClosed)
	}
	return s.db.begin(ctx, what)
}

// Ready tells whether the database can be used and the cluster is there.
func (s *Store) Ready(ctx context.Context) error {
	if s.closed.Load() {
		return fmt.Errorf("ready: %w", storage.ErrClosed)
	}
	if err := s.db.Ready(ctx); err != nil {
		return err
	}
	_, err := s.Head(ctx)
	return err
}

// Wake signals other handles' commits.
func (s *Store) Wake() <-chan struct{} { return s.wake }

// Close ends this handle only.
func (s *Store) Close() error {
	if !s.closed.Swap(true) {
		s.db.stores.remove(s)
	}
	return nil
}

// gone is the error of a handle whose cluster was dropped.
func (s *Store) gone(what string) error {
	return fmt.Errorf("%s: cluster %q: %w", what, s.name, storage.ErrNotFound)
}

// row runs a statement that returns one row about the cluster, or none when the cluster was dropped.
func (s *Store) row(ctx context.Context, what, sql string, args []any, into ...any) error {
	return s.db.query(ctx, what, func(c *pgxpool.Conn) error {
		err := c.QueryRow(ctx, sql, s.db.args(args...)...).Scan(into...)
		if errors.Is(err, pgx.ErrNoRows) {
			return s.gone(what)
		}
		return err
	})
}

// renew begins a new epoch after a restart of the server, unless somebody already has.
func (s *Store) renew(ctx context.Context, what string) (pos storage.Position, err error) {
	err = s.row(ctx, what, s.db.sql.Renew, []any{s.id}, &pos.Revision, &pos.Epoch)
	if err == nil {
		s.db.log.Info("Database restarted", "cluster", s.name, "epoch", pos.Epoch, "revision", pos.Revision)
	}
	return pos, err
}

// current repeats read until it is told that the server has not restarted since the newest commit. Between a restart
// and the next epoch nothing may be answered: revisions that somebody saw may be missing.
func (s *Store) current(ctx context.Context, what string, read func() (current bool, err error)) error {
	for {
		current, err := read()
		if err != nil || current {
			return err
		}
		if _, err := s.renew(ctx, what); err != nil {
			return err
		}
	}
}
