package adapter

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
)

// Delete implements storage.Interface. The suggestion is ignored: the cache's own state is a better one. With
// IgnoreStoreReadError an object that cannot be read is deleted too; out is then left alone.
func (s *Store) Delete(
	ctx context.Context, key string, out runtime.Object, preconditions *apistorage.Preconditions,
	validate apistorage.ValidateObjectFunc, _ runtime.Object, opts apistorage.DeleteOptions,
) error {
	k, err := s.Key(key)
	if err != nil {
		return err
	}
	ctx, end := s.span(ctx, "Delete", k)
	defer end()
	if _, err := conversion.EnforcePtr(out); err != nil {
		return fmt.Errorf("unable to convert output object to pointer: %w", err)
	}
	st, err := s.begin(ctx, k)
	for {
		if err != nil {
			return err
		}
		if st.view == nil {
			return s.keyNotFound(key, 0)
		}
		var obj runtime.Object
		if !opts.IgnoreStoreReadError {
			if obj, err = st.view.ObjectAt(st.rev); err != nil {
				return s.fail(opName("read", k), err)
			}
		}
		if refusal := mayDelete(ctx, key, obj, preconditions, validate); refusal != nil {
			if st, err = s.again(ctx, k, st, refusal); err != nil {
				return err
			}
			continue
		}
		res, err := s.Committer.Commit(ctx, storage.Op{
			Key: k, Verb: storage.Delete, Expect: st.rev, Relaxed: s.relaxed(nil, obj),
		}, nil)
		if err == nil {
			err = res.Err
		}
		if err == nil {
			s.turns.deleted(k)
		}
		switch {
		case err == nil && opts.IgnoreStoreReadError:
			return nil
		case err == nil:
			return s.show(st.view, res.Revision, out)
		case errors.Is(err, storage.ErrConflict), errors.Is(err, storage.ErrNotFound):
		default:
			return s.fail(opName("delete", k), err)
		}
		st, err = s.refresh(ctx, k)
		if err != nil {
			return err
		}
	}
}

func mayDelete(ctx context.Context, key string, obj runtime.Object, preconditions *apistorage.Preconditions, validate apistorage.ValidateObjectFunc) error {
	if preconditions != nil {
		if err := preconditions.Check(key, obj); err != nil {
			return err
		}
	}
	return validate(ctx, obj)
}
