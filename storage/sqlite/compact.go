package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/rowlock-io/rowlock/storage"
)

const (
	// dropRows is how many rows one transaction deletes, so that writers are held up for milliseconds only.
	dropRows = 1000
	// keepFree is how many free pages (of 4 KiB) stay in the file for what comes next.
	keepFree = 1024
)

// Compact first raises the floor, from when on readers do not look below it, and then deletes in steps between which
// others can write. A stop in between leaves rows that nobody sees; the next call deletes them.
func (s *Store) Compact(ctx context.Context, through storage.Revision) error {
	through, err := s.raiseFloor(ctx, through)
	if err != nil {
		return err
	}
	c := s.c
	if err := c.db.dropChanges(ctx, c.id, through); err != nil {
		return err
	}
	return c.db.sweep(ctx)
}

// raiseFloor returns the revision through which rows can go.
func (s *Store) raiseFloor(ctx context.Context, through storage.Revision) (storage.Revision, error) {
	c := s.c
	w, unlock, err := c.db.lockWriter(ctx, "compact")
	if err != nil {
		return 0, err
	}
	defer unlock()
	c.mu.RLock()
	err = s.usable(ctx, "compact")
	pos, flushed := c.pos, c.flushed
	c.mu.RUnlock()
	if err != nil {
		return 0, err
	}
	if through > pos.Revision {
		return 0, fmt.Errorf("compact through %d: %w: head is %d", through, storage.ErrFuture, pos.Revision)
	}
	if through > flushed {
		if err := c.db.flushAll(w); err != nil {
			return 0, fmt.Errorf("compact: %w", err)
		}
	}
	var row [4]driver.Value
	if _, err := w.one(ctx, row[:], c.db.st.Position, c.id); err != nil {
		return 0, explain("compact", err)
	}
	if floor := revision(row[2]); through <= floor {
		return floor, nil // nothing to raise, but rows may be left from a compaction that was cut off
	}
	err = c.db.transact(w, func() error {
		if _, err := w.exec(c.db.st.RaiseFloor, c.id, int64(through)); err != nil {
			return explain("compact", err)
		}
		return nil
	})
	return through, err
}

// step runs one short write transaction and gives the writer back.
func (d *Database) step(ctx context.Context, what string, fn func(w *conn) (int64, error)) (int64, error) {
	w, unlock, err := d.lockWriter(ctx, what)
	if err != nil {
		return 0, err
	}
	defer unlock()
	var n int64
	err = d.transact(w, func() error {
		var err error
		if n, err = fn(w); err != nil {
			return explain(what, err)
		}
		return nil
	})
	return n, err
}

func (d *Database) dropChanges(ctx context.Context, cluster int64, through storage.Revision) error {
	dropped := int64(0)
	for {
		left, err := d.any(ctx, d.st.HasChanges, cluster, int64(through))
		if err != nil {
			return err
		}
		if !left {
			break // found out by reading: there may have been nothing to do at all
		}
		n, err := d.step(ctx, "compact", func(w *conn) (int64, error) {
			return w.exec(d.st.DropChanges, cluster, int64(through), int64(dropRows))
		})
		if err != nil {
			return err
		}
		dropped += n
	}
	if dropped == 0 {
		return nil
	}
	return d.vacuum(ctx)
}

// any tells whether a statement finds a row.
func (d *Database) any(ctx context.Context, st *statement, values ...driver.Value) (bool, error) {
	r, done, err := d.reader(ctx, "compact")
	if err != nil {
		return false, err
	}
	defer done()
	var row [1]driver.Value
	found, err := r.one(ctx, row[:], st, values...)
	if err != nil {
		return false, explain("compact", err)
	}
	return found, nil
}

// vacuum gives free pages back to the file system, a few at a time.
func (d *Database) vacuum(ctx context.Context) error {
	for {
		again, err := d.vacuumStep(ctx)
		if err != nil || !again {
			return err
		}
	}
}

func (d *Database) vacuumStep(ctx context.Context) (bool, error) {
	w, unlock, err := d.lockWriter(ctx, "compact")
	if err != nil {
		return false, err
	}
	defer unlock()
	var row [1]driver.Value
	if _, err := w.one(ctx, row[:], d.st.FreePages); err != nil {
		return false, explain("compact", err)
	}
	if integer(row[0]) <= keepFree {
		return false, nil
	}
	// This pragma frees one page for each row that is read, so it has to be read to its end.
	r, err := w.query(context.Background(), d.st.Vacuum)
	if err != nil {
		return false, explain("compact", err)
	}
	defer r.close()
	for {
		ok, err := r.next()
		if err != nil {
			return false, explain("compact", err)
		}
		if !ok {
			return true, nil
		}
	}
}

// sweep deletes what is left of dropped clusters.
func (d *Database) sweep(ctx context.Context) error {
	for {
		r, done, err := d.reader(ctx, "drop cluster")
		if err != nil {
			return err
		}
		var row [1]driver.Value
		found, err := r.one(ctx, row[:], d.st.Dropped)
		done()
		if err != nil {
			return explain("drop cluster", err)
		}
		if !found {
			return nil
		}
		if err := d.sweepOne(ctx, integer(row[0])); err != nil {
			return err
		}
	}
}

func (d *Database) sweepOne(ctx context.Context, id int64) error {
	for {
		n, err := d.step(ctx, "drop cluster", func(w *conn) (int64, error) {
			return w.exec(d.st.DropObjects, id, int64(dropRows))
		})
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	if err := d.dropChanges(ctx, id, 1<<62); err != nil {
		return err
	}
	_, err := d.step(ctx, "drop cluster", func(w *conn) (int64, error) { return w.exec(d.st.ForgetCluster, id) })
	return err
}
