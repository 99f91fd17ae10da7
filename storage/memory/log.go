package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// Changes returns a stretch of the log.
func (s *Store) Changes(ctx context.Context, after storage.Revision, limit int) (storage.Batch, error) {
	c := s.c
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := s.usable(ctx, "changes"); err != nil {
		return storage.Batch{}, err
	}
	switch {
	case after > c.pos.Revision:
		return storage.Batch{}, fmt.Errorf("changes after %d: %w: head is %d", after, storage.ErrFuture, c.pos.Revision)
	case after < c.floor:
		return storage.Batch{}, fmt.Errorf("changes after %d: %w: kept from %d", after, storage.ErrCompacted, c.floor)
	}
	b := storage.Batch{Position: c.pos, Changes: c.changes[c.firstAfter(after):]}
	if limit > 0 && len(b.Changes) > limit {
		b.Changes = b.Changes[:limit]
		b.Revision = b.Changes[limit-1].Revision
	}
	b.Changes = slices.Clone(b.Changes)
	return b, nil
}

func (c *cluster) firstAfter(rev storage.Revision) int {
	i, _ := slices.BinarySearchFunc(c.changes, rev+1, func(ch storage.Change, r storage.Revision) int {
		if ch.Revision < r {
			return -1
		}
		return 1
	})
	return i
}

// Floor returns the compaction floor.
func (s *Store) Floor(ctx context.Context) (storage.Revision, error) {
	s.c.mu.RLock()
	defer s.c.mu.RUnlock()
	if err := s.usable(ctx, "floor"); err != nil {
		return 0, err
	}
	return s.c.floor, nil
}

// Horizon returns what retention lets go. A change counts with the bytes of both its states and its key.
func (s *Store) Horizon(ctx context.Context, maxAge time.Duration, maxBytes int64) (storage.Revision, error) {
	c := s.c
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := s.usable(ctx, "horizon"); err != nil {
		return 0, err
	}
	var held int64
	for i := len(c.changes) - 1; i >= 0; i-- {
		ch := &c.changes[i]
		held += int64(len(ch.Data) + len(ch.Prev) + len(ch.Resource) + len(ch.Namespace) + len(ch.Name))
		if (maxAge > 0 && time.Since(ch.Time) > maxAge) || (maxBytes > 0 && held > maxBytes) {
			return ch.Revision, nil
		}
	}
	return c.floor, nil
}

// Compact raises the floor.
func (s *Store) Compact(ctx context.Context, through storage.Revision) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.usable(ctx, "compact"); err != nil {
		return err
	}
	if through > c.pos.Revision {
		return fmt.Errorf("compact through %d: %w: head is %d", through, storage.ErrFuture, c.pos.Revision)
	}
	if through <= c.floor {
		return nil
	}
	c.changes = slices.Clone(c.changes[c.firstAfter(through):])
	c.floor = through
	return nil
}
