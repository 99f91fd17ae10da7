package adapter

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
)

// Get implements storage.Interface. Without a resourceVersion the object is current; with one it is not older.
func (s *Store) Get(ctx context.Context, key string, opts apistorage.GetOptions, out runtime.Object) error {
	sc, err := s.scope(key, false)
	if err != nil {
		return err
	}
	if err := s.fresh(ctx, opts.ResourceVersion); err != nil {
		return err
	}
	if sc.nothing {
		return s.absent(key, s.Cache.Position().Revision, opts.IgnoreNotFound, out)
	}
	e, at := s.Cache.Get(sc.key)
	if e == nil {
		return s.absent(key, at.Revision, opts.IgnoreNotFound, out)
	}
	return s.show(s.codec.View(e), e.Revision, out)
}

func (s *Store) absent(key string, at storage.Revision, ignore bool, out runtime.Object) error {
	if ignore {
		return runtime.SetZeroValue(out)
	}
	return s.keyNotFound(key, at)
}

// show sets out to an object at a revision.
func (s *Store) show(v *object.View, at storage.Revision, out runtime.Object) error {
	obj, err := v.Assignable()
	if err != nil {
		return s.fail(opName("read", v.Key()), err)
	}
	if err := setObject(out, obj); err != nil {
		return err
	}
	if at == v.Revision() {
		return nil
	}
	return versioner.UpdateObject(out, uint64(at))
}

// fresh brings the cache to where a read with this resourceVersion may be answered: "" is the present, "0" is
// anything, a number is that revision or later.
func (s *Store) fresh(ctx context.Context, resourceVersion string) error {
	if resourceVersion == "" {
		return s.current(ctx)
	}
	rev, err := parseRevision(resourceVersion)
	if err != nil {
		return err
	}
	return s.notOlder(ctx, rev)
}

func parseRevision(resourceVersion string) (storage.Revision, error) {
	rev, err := versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	return storage.Revision(rev), nil
}

func (s *Store) current(ctx context.Context) error {
	if _, err := s.Cache.Current(ctx); err != nil {
		return s.fail("read the current revision", err)
	}
	return nil
}

// notOlder waits until the cache has reached a revision. One beyond the database's head was never handed out by any
// replica, so waiting for it would be in vain.
func (s *Store) notOlder(ctx context.Context, rev storage.Revision) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if s.Cache.Position().Revision >= rev {
		return nil
	}
	head, err := s.Cache.Current(ctx)
	if err != nil {
		return s.fail("read the current revision", err)
	}
	if head < rev {
		return tooLarge(rev, head)
	}
	return nil
}

// sameType returns what two pointers point to, when obj's can be assigned to out's.
func sameType(out, obj runtime.Object) (to, from reflect.Value, err error) {
	to, err = conversion.EnforcePtr(out)
	if err != nil {
		return to, from, fmt.Errorf("unable to convert output object to pointer: %w", err)
	}
	from, err = conversion.EnforcePtr(obj)
	if err != nil {
		return to, from, fmt.Errorf("stored object: %w", err)
	}
	if !from.Type().AssignableTo(to.Type()) {
		return to, from, fmt.Errorf("stored object is a %s, not a %s", from.Type(), to.Type())
	}
	return to, from, nil
}
