package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// Commit judges each op against the present and makes those that succeed visible together.
func (s *Store) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	if err := storage.CheckOps(ops); err != nil {
		return storage.Committed{}, fmt.Errorf("commit: %w", err)
	}
	c := s.c
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return storage.Committed{}, fmt.Errorf("commit: %w", context.Cause(ctx))
	}
	defer func() { <-c.writing }()

	done, changes, err := s.judge(ctx, ops)
	if err != nil {
		return storage.Committed{}, err
	}
	if c.beforeVisible != nil {
		c.beforeVisible(ops)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range changes {
		if ch.Verb == storage.Delete {
			c.objects.Delete(storage.Object{Key: ch.Key})
		} else {
			c.objects.Set(storage.Object{Key: ch.Key, Revision: ch.Revision, Data: ch.Data})
		}
	}
	c.changes = append(c.changes, changes...)
	c.pos.Revision = done.Head
	if len(changes) > 0 {
		for _, h := range c.handles {
			if h != s {
				select {
				case h.wake <- struct{}{}:
				default:
				}
			}
		}
	}
	return done, nil
}

// judge needs c.writing taken, so that nothing can change until its verdicts are applied.
func (s *Store) judge(ctx context.Context, ops []storage.Op) (storage.Committed, []storage.Change, error) {
	c := s.c
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := s.usable(ctx, "commit"); err != nil {
		return storage.Committed{}, nil, err
	}
	done := storage.Committed{
		Before:  c.pos,
		Head:    c.pos.Revision,
		Time:    time.Now(),
		Results: make([]storage.Result, len(ops)),
	}
	var changes []storage.Change
	for i := range ops {
		op := &ops[i]
		old, _ := c.objects.Get(storage.Object{Key: op.Key})
		if err := storage.Judge(op, old.Revision); err != nil {
			done.Results[i].Err = err
			continue
		}
		done.Head++
		done.Results[i].Revision = done.Head
		ch := storage.Change{
			Key: op.Key, Revision: done.Head, Verb: op.Verb, Time: done.Time,
			Prev: old.Data, PrevRevision: old.Revision,
		}
		if op.Verb != storage.Delete {
			ch.Data = op.Data
		}
		changes = append(changes, ch)
	}
	return done, changes, nil
}
