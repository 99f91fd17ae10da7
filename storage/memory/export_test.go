package memory

import "github.com/rowlock-io/rowlock/storage"

// ParkIn runs fn within every commit of a cluster, just before it can be seen.
func (d *Database) ParkIn(name string, fn func(ops []storage.Op)) {
	c := d.clusters[name]
	c.writing <- struct{}{}
	c.beforeVisible = fn
	<-c.writing
}

// CloseHandles ends all handles of a cluster.
func (d *Database) CloseHandles(name string) {
	c := d.clusters[name]
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.handles {
		s.closed = true
	}
	c.handles = nil
}
