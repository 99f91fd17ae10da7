package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// Clusters lists all clusters by name.
func (d *Database) Clusters(ctx context.Context) ([]storage.Cluster, error) {
	const what = "list clusters"
	c, done, err := d.reader(ctx, what)
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := c.query(ctx, d.st.Clusters)
	if err != nil {
		return nil, explain(what, err)
	}
	defer r.close()
	var out []storage.Cluster
	for {
		ok, err := r.next()
		if err != nil {
			return nil, explain(what, err)
		}
		if !ok {
			return out, nil
		}
		out = append(out, storage.Cluster{Name: text(r.dest[0]), Created: time.UnixMicro(integer(r.dest[1]))})
	}
}

// CreateCluster makes an empty cluster.
func (d *Database) CreateCluster(ctx context.Context, name string) error {
	w, unlock, err := d.lockWriter(ctx, "create cluster")
	if err != nil {
		return err
	}
	defer unlock()
	return d.transact(w, func() error {
		var row [7]driver.Value
		found, err := w.one(ctx, row[:], d.st.FindCluster, name)
		if err != nil {
			return explain("create cluster", err)
		}
		if found {
			return fmt.Errorf("create cluster %q: %w", name, storage.ErrExists)
		}
		if _, err := w.exec(d.st.CreateCluster, name, time.Now().UnixMicro()); err != nil {
			return explain("create cluster", err)
		}
		return nil
	})
}

// OpenCluster returns one more handle on a cluster. All handles of one Database share its state, as replicas of one
// log: what one commits wakes the others.
func (d *Database) OpenCluster(ctx context.Context, name string) (storage.Store, error) {
	w, unlock, err := d.lockWriter(ctx, "open cluster") // so that nobody writes to it meanwhile
	if err != nil {
		return nil, err
	}
	defer unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.clusters[name]
	if !ok {
		var row [7]driver.Value
		found, err := w.one(ctx, row[:], d.st.FindCluster, name)
		if err != nil {
			return nil, explain("open cluster", err)
		}
		if !found {
			return nil, fmt.Errorf("open cluster %q: %w", name, storage.ErrNotFound)
		}
		c = &cluster{
			db: d, id: integer(row[0]), name: name,
			pos:      storage.Position{Revision: revision(row[1]), Epoch: uint64(integer(row[2]))},
			flushed:  revision(row[1]),
			reserved: revision(row[5]),
			logged:   integer(row[6]),
			state:    map[storage.Key]storage.Object{},
		}
		d.clusters[name] = c
	}
	return c.open(), nil
}

// DropCluster first makes the cluster vanish, then deletes its rows in steps between which others can write. A stop
// in the middle leaves rows of nobody, which the next drop or compaction deletes.
func (d *Database) DropCluster(ctx context.Context, name string) error {
	if err := d.forget(ctx, name); err != nil {
		return err
	}
	return d.sweep(ctx)
}

func (d *Database) forget(ctx context.Context, name string) error {
	const what = "drop cluster"
	w, unlock, err := d.lockWriter(ctx, what)
	if err != nil {
		return err
	}
	defer unlock()
	err = d.transact(w, func() error {
		var row [7]driver.Value
		found, err := w.one(ctx, row[:], d.st.FindCluster, name)
		if err == nil && !found {
			return fmt.Errorf("%s %q: %w", what, name, storage.ErrNotFound)
		}
		if err == nil {
			_, err = w.exec(d.st.MarkDropped, integer(row[0]))
		}
		if err != nil {
			return explain(what, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	c := d.clusters[name]
	delete(d.clusters, name)
	d.mu.Unlock()
	if c != nil {
		c.end(storage.ErrNotFound)
	}
	return nil
}
