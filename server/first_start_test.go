package server_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// recorded is a database that remembers what it was told to write.
type recorded struct {
	storage.Database
	mu  sync.Mutex
	ops []storage.Op
}

func (d *recorded) OpenCluster(ctx context.Context, name string) (storage.Store, error) {
	s, err := d.Database.OpenCluster(ctx, name)
	return &recordedStore{s, d}, err
}

func (d *recorded) take() []storage.Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	ops := d.ops
	d.ops = nil
	return ops
}

type recordedStore struct {
	storage.Store
	db *recorded
}

func (s *recordedStore) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	done, err := s.Store.Commit(ctx, ops)
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	s.db.ops = append(s.db.ops, ops...)
	return done, err
}

// TestFirstStart: what the server itself writes at a cluster's first start need not wait for the disk, but the last of it,
// before which nobody is told that the cluster is ready, does. Later, and where others share the database, everything does.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	tracking := storage.Key{Resource: "configmaps", Namespace: "kube-system", Name: "kube-apiserver-legacy-service-account-token-tracking"}
	for name, tc := range map[string]struct{ replicas, relaxed bool }{"alone": {false, true}, "shared": {true, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := &recorded{Database: memory.New()}
			cfg := servertest.Config{Database: db, Plane: func(c *controlplane.Config) { c.Replicas = tc.replicas }}
			s := servertest.Start(t, cfg)
			ops := db.take()
			for _, want := range []string{"namespaces", "clusterroles.rbac.authorization.k8s.io", "flowschemas.flowcontrol.apiserver.k8s.io", "services"} {
				i := slices.IndexFunc(ops, func(op storage.Op) bool { return op.Key.Resource == want })
				if i < 0 {
					t.Fatalf("no %s among %d writes", want, len(ops))
				}
				if ops[i].Relaxed != tc.relaxed {
					t.Errorf("first of %s: relaxed %v, expected %v", want, ops[i].Relaxed, tc.relaxed)
				}
			}
			last := slices.IndexFunc(ops, func(op storage.Op) bool { return op.Key == tracking })
			if last < 0 || ops[last].Relaxed {
				t.Errorf("the last write, at %d of %d: %+v", last, len(ops), ops[max(last, 0)])
			}
			wire.Send(t, s.URL, servertest.Request{
				Method: "POST", Path: "/api/v1/namespaces", Token: servertest.AdminToken, Body: `{"metadata":{"name":"later"}}`,
			})
			var seen bool
			for _, op := range db.take() {
				if op.Key.Name != "later" {
					continue
				}
				if seen = true; op.Relaxed {
					t.Error("a client's write did not wait for the disk")
				}
			}
			if !seen {
				t.Error("a client's write is not among those that were seen")
			}
		})
	}
}
