package memory

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"github.com/rowlock-io/rowlock/storage"
)

// cluster is the data that all handles of one cluster share.
type cluster struct {
	name    string
	created time.Time

	writing chan struct{} // of one: full for a whole commit, so that commits are judged one after another

	mu      sync.RWMutex
	pos     storage.Position
	floor   storage.Revision
	objects *btree.BTreeG[storage.Object]
	changes []storage.Change // all after floor, in order
	handles []*Store
	ended   error // why no handle can be used any more

	// beforeVisible is called within a commit that is judged but cannot be seen yet; tests park commits in it.
	beforeVisible func(ops []storage.Op)
}

func newCluster(name string, now time.Time) *cluster {
	less := func(a, b storage.Object) bool { return a.Key.Compare(b.Key) < 0 }
	return &cluster{
		name:    name,
		created: now,
		writing: make(chan struct{}, 1),
		pos:     storage.Position{Epoch: 1, Revision: 1},
		floor:   1,
		objects: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true}),
	}
}

func (c *cluster) open() *Store {
	s := &Store{c: c, wake: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handles = append(c.handles, s)
	return s
}

func (c *cluster) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = why
	}
}

// Store is one replica's handle on a cluster.
type Store struct {
	c      *cluster
	wake   chan struct{}
	closed bool // guarded by c.mu
}

var _ storage.Store = (*Store)(nil)

// usable is called with c.mu held.
func (s *Store) usable(ctx context.Context, what string) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case s.closed:
		return fmt.Errorf("%s: %w", what, storage.ErrClosed)
	case s.c.ended != nil:
		return fmt.Errorf("%s: cluster %q: %w", what, s.c.name, s.c.ended)
	}
	return nil
}

// Ready tells whether the handle can be used.
func (s *Store) Ready(ctx context.Context) error {
	s.c.mu.RLock()
	defer s.c.mu.RUnlock()
	return s.usable(ctx, "ready")
}

// Wake signals other handles' commits.
func (s *Store) Wake() <-chan struct{} { return s.wake }

// Close ends this handle only.
func (s *Store) Close() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.closed = true
	s.c.handles = slices.DeleteFunc(s.c.handles, func(o *Store) bool { return o == s })
	return nil
}
