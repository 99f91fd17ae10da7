package adapter

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
)

// state is the object that an update or a deletion starts from.
type state struct {
	view *object.View // nil: there is none
	rev  storage.Revision
	// current tells that the database was asked. Otherwise it is what the cache held, and a refusal that it leads to
	// may be a mistake: then the object is looked at again before the caller hears of it.
	current bool
}

// old returns the object, which nobody may change; nil: there is none.
func (st state) old() (runtime.Object, error) {
	if st.view == nil {
		return nil, nil //nolint:nilnil // that there is none is no error
	}
	return st.view.ObjectAt(st.rev)
}

// begin returns what the cache holds of a key. That nothing is there is believed only of the database.
func (s *Store) begin(ctx context.Context, key storage.Key) (state, error) {
	if err := s.ready(ctx); err != nil {
		return state{}, err
	}
	if e, _ := s.Cache.Get(key); e != nil {
		return state{view: s.codec.View(e), rev: e.Revision}, nil
	}
	return s.refresh(ctx, key)
}

// refresh returns the present state of a key.
func (s *Store) refresh(ctx context.Context, key storage.Key) (state, error) {
	if err := s.current(ctx); err != nil {
		return state{}, err
	}
	st := state{current: true}
	if e, _ := s.Cache.Get(key); e != nil {
		st.view, st.rev = s.codec.View(e), e.Revision
	}
	return st, nil
}

// again looks whether a refusal was about an old state. It returns the state to try again with, or the refusal.
func (s *Store) again(ctx context.Context, key storage.Key, st state, refusal error) (state, error) {
	if st.current {
		return st, refusal
	}
	now, err := s.refresh(ctx, key)
	if err != nil {
		return st, err
	}
	if now.view != nil && now.rev == st.rev {
		return now, refusal
	}
	return now, nil
}

// zero returns an object as the registries expect it where none is stored.
func (s *Store) zero() runtime.Object { return s.codec.Config().New() }
