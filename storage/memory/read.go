package memory

import (
	"context"
	"fmt"

	"github.com/tidwall/btree"

	"github.com/rowlock-io/rowlock/storage"
)

// Get returns one object.
func (s *Store) Get(ctx context.Context, key storage.Key, at storage.Revision) (storage.Object, error) {
	c := s.c
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := s.usable(ctx, "get"); err != nil {
		return storage.Object{}, err
	}
	tree, err := c.stateAt(at)
	if err != nil {
		return storage.Object{}, fmt.Errorf("get %s: %w", key, err)
	}
	obj, ok := tree.Get(storage.Object{Key: key})
	if !ok {
		return storage.Object{}, fmt.Errorf("get %s: %w", key, storage.ErrNotFound)
	}
	return obj, nil
}

// List returns a part of a collection.
func (s *Store) List(ctx context.Context, sel storage.Selector, opts storage.ListOptions) (storage.Page, error) {
	c := s.c
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := s.usable(ctx, "list"); err != nil {
		return storage.Page{}, err
	}
	tree, err := c.stateAt(opts.Revision)
	if err != nil {
		return storage.Page{}, fmt.Errorf("list %s: %w", sel.Resource, err)
	}
	page := storage.Page{Position: c.pos}
	if opts.Revision != 0 {
		page.Revision = opts.Revision
	}
	tree.Ascend(storage.Object{Key: opts.After}, func(obj storage.Object) bool {
		if obj.Key == opts.After || !sel.Matches(obj.Key) {
			return true
		}
		if opts.Limit > 0 && len(page.Objects) == opts.Limit {
			page.More = true
			return false
		}
		page.Objects = append(page.Objects, obj)
		return true
	})
	return page, nil
}

// stateAt returns all objects as they were at a revision; 0 is now.
func (c *cluster) stateAt(at storage.Revision) (*btree.BTreeG[storage.Object], error) {
	switch {
	case at == 0 || at == c.pos.Revision:
		return c.objects, nil
	case at > c.pos.Revision:
		return nil, fmt.Errorf("%w: asked for %d, head is %d", storage.ErrFuture, at, c.pos.Revision)
	case at < c.floor:
		return nil, fmt.Errorf("%w: asked for %d, kept from %d", storage.ErrCompacted, at, c.floor)
	}
	// Copied item by item: a lazy copy would write to the tree, which readers share.
	past := btree.NewBTreeGOptions(c.objects.Less, btree.Options{NoLocks: true})
	c.objects.Scan(func(o storage.Object) bool {
		past.Load(o)
		return true
	})
	for i := len(c.changes) - 1; i >= 0 && c.changes[i].Revision > at; i-- {
		ch := &c.changes[i]
		if ch.Verb == storage.Create {
			past.Delete(storage.Object{Key: ch.Key})
		} else {
			past.Set(storage.Object{Key: ch.Key, Revision: ch.PrevRevision, Data: ch.Prev})
		}
	}
	return past, nil
}

// Head returns the newest position.
func (s *Store) Head(ctx context.Context) (storage.Position, error) {
	s.c.mu.RLock()
	defer s.c.mu.RUnlock()
	if err := s.usable(ctx, "head"); err != nil {
		return storage.Position{}, err
	}
	return s.c.pos, nil
}
