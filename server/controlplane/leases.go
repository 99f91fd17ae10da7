package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/kubernetes/pkg/controlplane/reconcilers"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// replicaResource is the internal resource by which replicas tell each other that they live: an object for each address.
const replicaResource = "replicas.rowlock.internal"

// replicaLease is how long a replica counts as alive after it last said so.
const replicaLease = 30 * time.Second

// replicaLeases implements upstream's leases of API servers. A lease is alive while its revision keeps changing, judged
// by this replica's own clock: clocks of different machines are never compared.
type replicaLeases struct {
	backend adapter.Backend

	mu   sync.Mutex
	seen map[string]sighting
}

type sighting struct {
	at       storage.Revision
	observed time.Time
}

var _ reconcilers.Leases = &replicaLeases{}

func newReplicaLeases(b adapter.Backend) *replicaLeases {
	return &replicaLeases{backend: b, seen: map[string]sighting{}}
}

func replicaKey(ip string) storage.Key {
	return storage.Key{Resource: replicaResource, Name: strings.ReplaceAll(ip, ":", "_")} // IPv6
}

// ListLeases returns the addresses of the replicas that live.
func (l *replicaLeases) ListLeases() ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, alive := time.Now(), []string{}
	l.backend.Cache.Snapshot(replicaResource).Scan("", storage.Key{}, func(e *cache.Entry) bool {
		s := l.seen[e.Name]
		if s.at != e.Revision {
			s = sighting{at: e.Revision, observed: now}
			l.seen[e.Name] = s
		}
		if now.Sub(s.observed) < replicaLease {
			alive = append(alive, strings.ReplaceAll(e.Name, "_", ":"))
		}
		return true
	})
	return alive, nil
}

// UpdateLease says that the replica at an address lives.
func (l *replicaLeases) UpdateLease(ip string) error {
	ctx, cancel := context.WithTimeout(context.Background(), replicaLease/2)
	defer cancel()
	op := storage.Op{Key: replicaKey(ip), Verb: storage.Create, Data: []byte("{}"), Relaxed: true}
	if e, _ := l.backend.Cache.Get(op.Key); e != nil {
		op.Verb, op.Expect = storage.Update, e.Revision
	}
	r, err := l.backend.Committer.Commit(ctx, op, nil)
	if err == nil {
		err = r.Err
	}
	if errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrConflict) {
		return nil // somebody renewed it in between
	}
	if err != nil {
		return fmt.Errorf("renew the lease of replica %s: %w", ip, err)
	}
	return nil
}

// RemoveLease says that the replica at an address is gone.
func (l *replicaLeases) RemoveLease(ip string) error {
	ctx, cancel := context.WithTimeout(context.Background(), replicaLease/2)
	defer cancel()
	e, _ := l.backend.Cache.Get(replicaKey(ip))
	if e == nil {
		return nil
	}
	r, err := l.backend.Committer.Commit(ctx, storage.Op{Key: e.Key, Verb: storage.Delete, Expect: e.Revision, Relaxed: true}, nil)
	if err == nil {
		err = r.Err
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrConflict) {
		return fmt.Errorf("give up the lease of replica %s: %w", ip, err)
	}
	return nil
}

// Destroy implements reconcilers.Leases; nothing is held.
func (l *replicaLeases) Destroy() {}
