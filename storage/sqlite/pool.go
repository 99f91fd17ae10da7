package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/rowlock-io/rowlock/storage"
)

// lockWriter waits for its turn to write. The turn ends with unlock.
func (d *Database) lockWriter(ctx context.Context, what string) (w *conn, unlock func(), err error) {
	if err := d.usable(ctx, what); err != nil {
		return nil, nil, err
	}
	select {
	case w := <-d.writing:
		// Close may have begun while this call waited; then it comes next, and what is done now is still written.
		return w, func() { d.writing <- w }, nil
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case <-d.closed:
		return nil, nil, fmt.Errorf("%s: %w", what, storage.ErrClosed)
	}
}

func (d *Database) usable(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	select {
	case <-d.closed:
		return fmt.Errorf("%s: %w", what, storage.ErrClosed)
	default:
		return nil
	}
}

// reader waits for a connection to read with, in a transaction of its own: all that it reads is one state.
func (d *Database) reader(ctx context.Context, what string) (r *conn, done func(), err error) {
	if err := d.usable(ctx, what); err != nil {
		return nil, nil, err
	}
	select {
	case r = <-d.readers:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case <-d.closed:
		return nil, nil, fmt.Errorf("%s: %w", what, storage.ErrClosed)
	}
	if r == nil {
		if r, err = openConn(d.cfg.Path, readerPragmas, d.count); err != nil {
			d.readers <- nil
			return nil, nil, err
		}
	}
	if _, err := r.exec(d.st.Begin); err != nil {
		d.readers <- r
		return nil, nil, explain(what, err)
	}
	return r, func() {
		if _, err := r.exec(d.st.Commit); err != nil {
			// Nobody is hurt by a read transaction that cannot end, but the next one on this connection would be.
			d.cfg.Log.Warn("Reading connection was replaced", "err", err)
			_ = r.close()
			r = nil
		}
		d.readers <- r
	}, nil
}

// transact runs fn in a write transaction. On any error nothing of it remains, and the connection can be used again.
func (d *Database) transact(w *conn, fn func() error) error {
	if _, err := w.exec(d.st.BeginWrite); err != nil {
		return explain("begin to write", err)
	}
	if err := fn(); err != nil {
		w.rollback()
		return err
	}
	if d.beforeCommit != nil {
		d.beforeCommit()
	}
	if _, err := w.exec(d.st.Commit); err != nil {
		w.rollback()
		return explainCommit(err)
	}
	return nil
}

// rollback ends a transaction that failed. SQLite may have ended it already (disk full, I/O error).
func (c *conn) rollback() {
	if !c.c.AutoCommit() {
		_ = c.script("ROLLBACK")
	}
}

// text, integer and blob read a column. Their types are fixed by the schema (STRICT).
func text(v driver.Value) string   { s, _ := v.(string); return s }
func integer(v driver.Value) int64 { i, _ := v.(int64); return i }
func blob(v driver.Value) []byte   { b, _ := v.([]byte); return b }

func revision(v driver.Value) storage.Revision { return storage.Revision(integer(v)) }
