package adapter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
)

// Create implements storage.Interface. A ttl must be the one that the resource is configured with.
func (s *Store) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	k, err := s.Key(key)
	if err != nil {
		return err
	}
	ctx, end := s.span(ctx, "Create", k)
	defer end()
	if rv, err := versioner.ObjectResourceVersion(obj); err == nil && rv != 0 {
		return apistorage.ErrResourceVersionSetOnCreate
	}
	if err := s.checkTTL(ttl); err != nil {
		return err
	}
	plain, shown, err := s.codec.Normalize(obj)
	if err != nil {
		return err
	}
	v, rev, err := s.write(ctx, storage.Op{Key: k, Verb: storage.Create, Relaxed: s.relaxed(shown, nil)}, shown, plain)
	switch {
	case errors.Is(err, storage.ErrExists):
		return apistorage.NewKeyExistsError(key, 0)
	case err != nil:
		return s.fail(opName("create", k), err)
	case out == nil:
		return nil
	}
	return s.showWritten(ctx, v, rev, out)
}

// checkTTL refuses a time to live that nothing would enforce. Expiry is a matter of the resource, not of the single
// write: it is derived from when an object last changed (Sweeper), so it survives this process and costs no writes.
func (s *Store) checkTTL(ttl uint64) error {
	if want := s.codec.Config().TTL; ttl != 0 && ttl != uint64(want/time.Second) {
		return fmt.Errorf("ttl of %d s asked for %s, which is configured with %s", ttl, s.codec.Resource(), want)
	}
	return nil
}

// relaxed tells whether a write may be acknowledged before it is on disk; see object.Config.
func (s *Store) relaxed(obj, old runtime.Object) bool {
	relaxed := s.codec.Config().Relaxed
	return relaxed != nil && relaxed(obj, old)
}

// write commits the new state of an object, of which plain is the JSON, and returns it.
func (s *Store) write(ctx context.Context, op storage.Op, obj runtime.Object, plain []byte) (*object.View, storage.Revision, error) {
	data, err := s.codec.Seal(ctx, op.Key, plain)
	if err != nil {
		return nil, 0, err
	}
	op.Data = data
	op.Relaxed = op.Relaxed || s.First.own(ctx)
	v := s.codec.Written(op.Key, plain)
	v.Seed(obj)
	res, err := s.Committer.Commit(ctx, op, v)
	if err == nil {
		err = res.Err
	}
	if err != nil {
		return nil, 0, err
	}
	v.Committed(res.Revision)
	return v, res.Revision, nil
}
