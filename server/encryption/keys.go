package encryption

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// Cache shows what the log has brought: a *cache.Cache.
type Cache interface {
	Get(key storage.Key) (*cache.Entry, storage.Position)
}

// Keys are one cluster's data keys as this replica knows them. It is safe for concurrent use.
type Keys struct {
	operator *seal.Keyring
	log      *slog.Logger

	known atomic.Pointer[known]
	cache Cache // nil: nothing is learned after Load

	mu      sync.Mutex
	refused storage.Revision // a document that could not be opened, so that it is said once
}

// known is a document, ready for use.
type known struct {
	at      storage.Revision
	cluster string
	ring    *seal.Keyring
}

// Load returns the data keys of the cluster whose store it is given, and makes them when there are none: of several replicas
// that start at once one makes them and all return the same. Keys that are there and cannot be read are never replaced.
//
// Errors wrap seal.ErrWrongKey, seal.ErrTampered, ErrFormat or what the store returned.
func Load(ctx context.Context, store Store, operator *seal.Keyring, log *slog.Logger) (*Keys, error) {
	doc, at, err := revise(ctx, store, operator, func(_ *document, fresh bool) (bool, error) { return fresh, nil })
	if err != nil {
		return nil, fmt.Errorf("load data keys: %w", err)
	}
	k := &Keys{operator: operator, log: log}
	return k, k.learn(doc, at)
}

// Follow makes the keys those of the document that a cache shows, from now on. Call it before the keys are used.
func (k *Keys) Follow(c Cache) { k.cache = c }

func (k *Keys) learn(doc *document, at storage.Revision) error {
	ring, err := doc.ring()
	if err != nil {
		return err
	}
	k.known.Store(&known{at: at, cluster: doc.Cluster, ring: ring})
	return nil
}

// current are the keys of the document that the cache shows. While that cannot be opened, or there is none, they are those
// that were known: the operator's key may be on its way to this replica.
func (k *Keys) current() *known {
	now := k.known.Load()
	if k.cache == nil {
		return now
	}
	e, _ := k.cache.Get(documentKey)
	if e == nil || e.Revision == now.at {
		return now
	}
	return k.reload(e)
}

func (k *Keys) reload(e *cache.Entry) *known {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.known.Load()
	if e.Revision == now.at || e.Revision == k.refused {
		return now
	}
	data, err := e.Bytes()
	if err != nil {
		k.log.Error("New data keys could not be read; those from before stay in use", "err", err)
		return now // asked again with the next request
	}
	doc, _, err := open(data, k.operator)
	if err == nil {
		err = k.learn(doc, e.Revision)
	}
	if err != nil {
		k.refused = e.Revision
		k.log.Error("New data keys could not be opened; those from before stay in use", "err", err)
	}
	return k.known.Load()
}

// seal encrypts with the key of the day.
func (k *Keys) seal(plain []byte, place string) []byte {
	return k.current().ring.Seal(plain, place)
}

// open decrypts. stale tells that another key than the one of the day was used.
func (k *Keys) open(sealed []byte, place string) (plain []byte, stale bool, err error) {
	now := k.known.Load()
	plain, err = now.ring.Open(sealed, place)
	if errors.Is(err, seal.ErrWrongKey) {
		now = k.current()
		plain, err = now.ring.Open(sealed, place)
	}
	return plain, now.ring.Stale(sealed), err
}

// place binds what is stored to its row: the cluster's own name for itself, and the key.
func (k *Keys) place(row []byte) []byte {
	cluster := k.known.Load().cluster
	place := make([]byte, 0, len(cluster)+1+len(row))
	return append(append(append(place, cluster...), '/'), row...)
}
