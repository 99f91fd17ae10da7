package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/rowlock-io/rowlock/storage"
)

// Get returns one object.
func (s *Store) Get(ctx context.Context, key storage.Key, at storage.Revision) (storage.Object, error) {
	v, err := s.view(ctx, "get")
	if err != nil {
		return storage.Object{}, err
	}
	defer v.done()
	what := "get " + key.String()
	if at != 0 {
		if err := v.check(at); err != nil {
			return storage.Object{}, fmt.Errorf("%s: %w", what, err)
		}
	}
	obj, found, err := v.get(ctx, key, at)
	if err != nil {
		return storage.Object{}, explain(what, err)
	}
	if !found {
		return storage.Object{}, fmt.Errorf("%s: %w", what, storage.ErrNotFound)
	}
	return obj, nil
}

func (v *view) get(ctx context.Context, key storage.Key, at storage.Revision) (storage.Object, bool, error) {
	if len(v.tail) > 0 || at != 0 {
		sel := storage.Selector{Resource: key.Resource, Namespace: key.Namespace, Name: key.Name}
		patches, err := v.patches(ctx, sel, at)
		if err != nil {
			return storage.Object{}, false, err
		}
		if p, ok := patches[key]; ok {
			return v.state(ctx, key, p)
		}
	}
	var row [2]driver.Value
	found, err := v.r.one(ctx, row[:], v.c.db.st.GetObject, v.c.id, key.Resource, key.Namespace, key.Name)
	if err != nil || !found {
		return storage.Object{}, false, err
	}
	return storage.Object{Key: key, Revision: revision(row[0]), Data: notNil(blob(row[1]))}, true, nil
}

// Head answers from memory: this process is the only one that commits.
func (s *Store) Head(ctx context.Context) (storage.Position, error) {
	s.c.mu.RLock()
	defer s.c.mu.RUnlock()
	if err := s.usable(ctx, "head"); err != nil {
		return storage.Position{}, err
	}
	return s.c.pos, nil
}
