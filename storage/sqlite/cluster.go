package sqlite

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/rowlock-io/rowlock/storage"
)

// cluster is what all handles of one cluster share.
type cluster struct {
	db   *Database
	id   int64
	name string

	// Only whoever has the writer uses these.
	reserved storage.Revision // as on disk: bounds the revisions that may be shown without being on disk
	relaxed  bool             // relaxed writes happen: keep some revisions reserved
	logged   int64            // bytes of all changes, with those of tail

	mu      sync.RWMutex
	pos     storage.Position // the newest that may have been shown
	flushed storage.Revision // the newest on disk
	// tail are the acknowledged changes that are not on disk, in order. It is appended to and replaced, never
	// changed, so readers may keep what they saw.
	tail      []storage.Change
	tailBytes int
	state     map[storage.Key]storage.Object // the newest state of each key in tail; Revision counts even when Data is nil (deleted)
	handles   []*Store
	ended     error // why no handle can be used any more
}

// Store is one replica's handle on a cluster.
type Store struct {
	c      *cluster
	wake   chan struct{}
	closed bool // guarded by c.mu
}

var _ storage.Store = (*Store)(nil)

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
	c.ended = why
	c.tail, c.tailBytes = nil, 0
	clear(c.state)
}

// usable needs c.mu.
func (s *Store) usable(ctx context.Context, what string) error {
	switch {
	case s.closed:
		return fmt.Errorf("%s: %w", what, storage.ErrClosed)
	case s.c.ended != nil:
		return fmt.Errorf("%s: cluster %q: %w", what, s.c.name, s.c.ended)
	}
	return s.c.db.usable(ctx, what)
}

// seen raises the head to a revision that a reader found on disk just before its writer could say so.
func (c *cluster) seen(rev storage.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pos.Revision = max(c.pos.Revision, rev)
}

// wakeOthers needs c.mu.
func (c *cluster) wakeOthers(s *Store) {
	for _, h := range c.handles {
		if h != s {
			select {
			case h.wake <- struct{}{}:
			default:
			}
		}
	}
}

// Ready reads from the database.
func (s *Store) Ready(ctx context.Context) error {
	v, err := s.view(ctx, "ready")
	if err != nil {
		return err
	}
	v.done()
	return nil
}

// Wake signals commits by other handles, at once and without loss: all of them are in this process.
func (s *Store) Wake() <-chan struct{} { return s.wake }

// Close ends this handle only. Relaxed writes stay visible to the others, and the Database writes them.
func (s *Store) Close() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.closed = true
	s.c.handles = slices.DeleteFunc(s.c.handles, func(o *Store) bool { return o == s })
	return nil
}
