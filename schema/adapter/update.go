package adapter

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
)

// GuaranteedUpdate implements storage.Interface. The suggestion is ignored: the cache's own state is a better one.
func (s *Store) GuaranteedUpdate(
	ctx context.Context, key string, out runtime.Object, ignoreNotFound bool,
	preconditions *apistorage.Preconditions, tryUpdate apistorage.UpdateFunc, _ runtime.Object,
) error {
	k, err := s.Key(key)
	if err != nil {
		return err
	}
	ctx, end := s.span(ctx, "GuaranteedUpdate", k)
	defer end()
	if _, err := conversion.EnforcePtr(out); err != nil {
		return fmt.Errorf("unable to convert output object to pointer: %w", err)
	}
	st, err := s.begin(ctx, k)
	for conflicts := 0; ; {
		if err != nil {
			return err
		}
		if st.view == nil && !ignoreNotFound {
			return s.keyNotFound(key, 0)
		}
		next, plain, refusal := s.tryUpdate(key, st, preconditions, tryUpdate)
		if refusal != nil {
			if st, err = s.again(ctx, k, st, refusal); err != nil {
				if isStale(err) {
					s.turns.lost(ctx, k)
				}
				return err
			}
			continue
		}
		same, err := s.unchanged(st, plain)
		if err != nil {
			return s.fail(opName("read", k), err)
		}
		if same {
			// Nobody is told that nothing changed on the strength of an old state.
			if st.current {
				return s.showWritten(ctx, st.view, st.rev, out)
			}
			now, err := s.refresh(ctx, k)
			if err != nil {
				return err
			}
			if now.view != nil && now.rev == st.rev {
				return s.showWritten(ctx, st.view, st.rev, out)
			}
			st = now
			continue
		}
		op := storage.Op{Key: k, Verb: storage.Update, Expect: st.rev}
		if st.view == nil {
			op.Verb = storage.Create
		}
		if s.codec.Config().Relaxed != nil {
			old, err := st.old()
			if err != nil {
				return s.fail(opName("read", k), err)
			}
			op.Relaxed = s.relaxed(next, old)
		}
		v, rev, err := s.write(ctx, op, next, plain)
		switch {
		case err == nil:
			s.turns.written(k)
			return s.showWritten(ctx, v, rev, out)
		case errors.Is(err, storage.ErrConflict), errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrExists):
		default:
			return s.fail(opName("update", k), err)
		}
		if conflicts++; conflicts > 1 {
			// A second time: it goes on until it succeeds, unlike an update of a given revision, which is refused now.
			s.turns.lost(ctx, k)
		}
		if st, err = s.refresh(ctx, k); err != nil {
			return err
		}
	}
}

// tryUpdate asks the caller for the object's next state and returns it with its JSON.
func (s *Store) tryUpdate(key string, st state, preconditions *apistorage.Preconditions, update apistorage.UpdateFunc) (runtime.Object, []byte, error) {
	obj := s.zero()
	if st.view != nil {
		var err error
		if obj, err = st.view.Mutable(); err != nil {
			return nil, nil, s.fail("read "+key, err)
		}
	}
	if err := preconditions.Check(key, obj); err != nil {
		return nil, nil, err
	}
	next, ttl, err := update(obj, apistorage.ResponseMeta{ResourceVersion: uint64(st.rev)})
	if err != nil {
		return nil, nil, err
	}
	if ttl != nil {
		if err := s.checkTTL(*ttl); err != nil {
			return nil, nil, err
		}
	}
	plain, shown, err := s.codec.Normalize(next)
	return shown, plain, err
}

// unchanged tells that writing would change nothing.
func (s *Store) unchanged(st state, plain []byte) (bool, error) {
	if st.view == nil {
		return false, nil
	}
	was, err := st.view.Plain()
	return err == nil && bytes.Equal(was, plain) && !st.view.Stale(), err
}
