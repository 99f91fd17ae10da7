package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// attempts bounds how often a call is tried when trying again is known to be harmless.
const attempts = 4

// query runs fn, which must be idempotent, on a connection of the pool, and again when the connection was stale or the
// server asked for it.
func (d *Database) query(ctx context.Context, what string, fn func(*pgxpool.Conn) error) error {
	for try := 1; ; try++ {
		err := d.once(ctx, fn)
		if err == nil {
			return nil
		}
		if try == attempts || !d.again(ctx, try, err) {
			return d.translate(ctx, what, err)
		}
	}
}

// once runs fn on a connection of the pool.
func (d *Database) once(ctx context.Context, fn func(*pgxpool.Conn) error) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return unsent{err}
	}
	defer conn.Release()
	return fn(conn)
}

// unsent marks an error that came before anything was sent.
type unsent struct{ error }

func (u unsent) Unwrap() error { return u.error }

func (unsent) SafeToRetry() bool { return true }

// again prepares for another try of something that is known not to have happened, or tells that there is no point.
func (d *Database) again(ctx context.Context, try int, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	switch code(err) {
	case "26000", "42P05", "0A000":
		// A pooler gave us a server connection that does not have, or already has, our prepared statement. From now
		// on nothing is prepared. (0A000 also says that a schema change made a prepared statement stale.)
		if !d.unprepared.Swap(true) {
			d.log.Warn("Prepared statements were lost and are no longer used", "code", code(err))
		}
		return true
	case "40001", "40P01", "23514":
		// 23514: the partition of the log was dropped between being chosen and being written.
	default:
		if !lost(err) {
			return false
		}
		if !errors.As(err, new(unsent)) {
			d.pool.Reset() // when one connection died, the others that lie idle probably did, too
		}
	}
	// The first time at once: nearly always it is a stale connection.
	return wait(ctx, time.Duration(try-1)*100*time.Millisecond)
}

// wait tells whether the time passed before ctx ended.
func wait(ctx context.Context, delay time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// inDoubt tells whether the statement that ended with err may have been committed all the same.
func inDoubt(err error) bool {
	return lost(err) && !pgconn.SafeToRetry(err)
}
