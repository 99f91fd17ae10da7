// Package memory is a storage.Database that lives in this process and forgets everything with it: the model that
// random tests compare the real drivers with, and what the layers above are tested on. It prefers being obviously
// right to being fast. Relaxed writes are treated like all others.
package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// Database holds clusters in memory. Every OpenCluster of one name is one more replica on the same data.
type Database struct {
	mu       sync.Mutex
	clusters map[string]*cluster
	closed   bool
}

var _ storage.Database = (*Database)(nil)

// New returns an empty database.
func New() *Database {
	return &Database{clusters: map[string]*cluster{}}
}

// lock takes mu when the database can still be used.
func (d *Database) lock(ctx context.Context, what string) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", what, storage.ErrClosed)
	}
	return d.mu.Unlock, nil
}

// Clusters lists all clusters by name.
func (d *Database) Clusters(ctx context.Context) ([]storage.Cluster, error) {
	unlock, err := d.lock(ctx, "list clusters")
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := make([]storage.Cluster, 0, len(d.clusters))
	for _, c := range d.clusters {
		out = append(out, storage.Cluster{Name: c.name, Created: c.created})
	}
	slices.SortFunc(out, func(a, b storage.Cluster) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// CreateCluster makes an empty cluster.
func (d *Database) CreateCluster(ctx context.Context, name string) error {
	unlock, err := d.lock(ctx, "create cluster")
	if err != nil {
		return err
	}
	defer unlock()
	if _, ok := d.clusters[name]; ok {
		return fmt.Errorf("create cluster %q: %w", name, storage.ErrExists)
	}
	d.clusters[name] = newCluster(name, time.Now())
	return nil
}

// OpenCluster returns one more replica's handle on a cluster.
func (d *Database) OpenCluster(ctx context.Context, name string) (storage.Store, error) {
	unlock, err := d.lock(ctx, "open cluster")
	if err != nil {
		return nil, err
	}
	defer unlock()
	c, ok := d.clusters[name]
	if !ok {
		return nil, fmt.Errorf("open cluster %q: %w", name, storage.ErrNotFound)
	}
	return c.open(), nil
}

// DropCluster forgets a cluster; handles that are still open answer ErrNotFound from then on.
func (d *Database) DropCluster(ctx context.Context, name string) error {
	unlock, err := d.lock(ctx, "drop cluster")
	if err != nil {
		return err
	}
	defer unlock()
	c, ok := d.clusters[name]
	if !ok {
		return fmt.Errorf("drop cluster %q: %w", name, storage.ErrNotFound)
	}
	delete(d.clusters, name)
	c.end(storage.ErrNotFound)
	return nil
}

// Ready tells whether the database can be used.
func (d *Database) Ready(ctx context.Context) error {
	unlock, err := d.lock(ctx, "ready")
	if err != nil {
		return err
	}
	unlock()
	return nil
}

// Close ends the database and every handle of it.
func (d *Database) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, c := range d.clusters {
		c.end(storage.ErrClosed)
	}
	return nil
}
