package adapter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
	"github.com/rowlock-io/rowlock/storage/commit"
)

// Backend is what all resources of one control plane are kept in.
type Backend struct {
	Store     storage.Store
	Cache     *cache.Cache
	Committer *commit.Committer // its Applied is Cache.Apply
	Traced    bool              // some requests have spans
	First     *First            // nil: all writes wait for the disk, but for those that object.Config names
}

// Store is one resource's storage.Interface. It is safe for concurrent use.
type Store struct {
	Backend
	codec  *object.Codec
	prefix string // with a slash at both ends

	turns turns

	sizes atomic.Bool // Stats is asked for sizes
	floor atomic.Uint64

	progressMu sync.Mutex
	progress   chan struct{} // closed by the next RequestWatchProgress
}

var _ apistorage.Interface = (*Store)(nil)

// New returns the Store of one resource. prefix is what the registry's keys begin with, such as "/pods".
func New(b Backend, codec *object.Codec, prefix string) *Store {
	return &Store{
		Backend:  b,
		codec:    codec,
		prefix:   "/" + strings.Trim(prefix, "/") + "/",
		progress: make(chan struct{}),
	}
}

// Codec returns the resource's codec.
func (s *Store) Codec() *object.Codec { return s.codec }

// Versioner implements storage.Interface.
func (s *Store) Versioner() apistorage.Versioner { return versioner }

// versioner turns revisions into resourceVersions and back; it has no state.
var versioner apistorage.APIObjectVersioner

// ReadinessCheck fails until the cache was loaded.
func (s *Store) ReadinessCheck() error {
	select {
	case <-s.Cache.Ready():
		return nil
	default:
		return apistorage.ErrStorageNotReady
	}
}

// ready waits for the first load.
func (s *Store) ready(ctx context.Context) error {
	select {
	case <-s.Cache.Ready():
		return nil
	default:
	}
	select {
	case <-s.Cache.Ready():
		return nil
	case <-ctx.Done():
		return s.fail("wait for the cache", context.Cause(ctx))
	}
}

// Stats counts the resource's objects and, when that was enabled, estimates their average size by the bytes stored.
func (s *Store) Stats(ctx context.Context) (apistorage.Stats, error) {
	if err := s.ready(ctx); err != nil {
		return apistorage.Stats{}, err
	}
	snap := s.Cache.Snapshot(s.codec.Resource())
	stats := apistorage.Stats{ObjectCount: int64(snap.Len())}
	if s.sizes.Load() && stats.ObjectCount > 0 {
		var total int64
		snap.Scan("", storage.Key{}, func(e *cache.Entry) bool {
			total += int64(e.Size())
			return true
		})
		stats.EstimatedAverageObjectSizeBytes = total / stats.ObjectCount
	}
	return stats, nil
}

// EnableResourceSizeEstimation makes Stats tell sizes. The keys are not needed: the cache knows every object.
func (s *Store) EnableResourceSizeEstimation(keys apistorage.KeysFunc) error {
	if keys == nil {
		return errors.New("KeysFunc cannot be nil")
	}
	if s.sizes.Swap(true) {
		return errors.New("resource size estimation is already enabled")
	}
	return nil
}

// GetCurrentResourceVersion returns the newest revision of the cluster.
func (s *Store) GetCurrentResourceVersion(ctx context.Context) (uint64, error) {
	rev, err := s.Cache.Current(ctx)
	if err != nil {
		return 0, s.fail("read the current revision", err)
	}
	return uint64(rev), nil
}

// floorTimeout bounds CompactRevision, which has no context of its own.
const floorTimeout = 5 * time.Second

// CompactRevision returns the compaction floor: lists at older revisions answer that they are too old. It is 0 when
// nothing was compacted yet. While the database is away it is what was last known.
func (s *Store) CompactRevision() int64 {
	ctx, cancel := context.WithTimeout(context.Background(), floorTimeout)
	defer cancel()
	// An empty cluster stands at revision 1, which is also its floor: there was never a change to drop.
	if floor, err := s.Backend.Store.Floor(ctx); err == nil && floor > 1 {
		for {
			known := s.floor.Load()
			if uint64(floor) <= known || s.floor.CompareAndSwap(known, uint64(floor)) {
				break
			}
		}
	}
	return int64(s.floor.Load())
}

// RequestWatchProgress makes every watch of this Store that asked for progress report it now.
func (s *Store) RequestWatchProgress(context.Context) error {
	s.progressMu.Lock()
	defer s.progressMu.Unlock()
	close(s.progress)
	s.progress = make(chan struct{})
	return nil
}

func (s *Store) progressRequested() <-chan struct{} {
	s.progressMu.Lock()
	defer s.progressMu.Unlock()
	return s.progress
}

// setObject makes *out what obj points to.
func setObject(out, obj runtime.Object) error {
	to, from, err := sameType(out, obj)
	if err != nil {
		return err
	}
	to.Set(from)
	return nil
}

func (s *Store) keyNotFound(key string, rev storage.Revision) error {
	return apistorage.NewKeyNotFoundError(key, int64(rev))
}

// op names a verb on a key for errors.
func opName(verb string, key storage.Key) string { return fmt.Sprintf("%s %s", verb, key) }
