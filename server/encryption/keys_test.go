package encryption_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/rowlock-io/rowlock/server/encryption"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
)

var secrets = schema.GroupResource{Resource: "secrets"}

// clusterStore is a new cluster's part of a database.
func clusterStore(t *testing.T, db storage.Database, name string) storage.Store {
	t.Helper()
	if err := db.CreateCluster(t.Context(), name); err != nil && !errors.Is(err, storage.ErrExists) {
		t.Fatal(err)
	}
	s, err := db.OpenCluster(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func operatorKey(t *testing.T) *seal.Keyring {
	t.Helper()
	ring, err := seal.Parse(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func load(t *testing.T, store encryption.Store, operator *seal.Keyring) *encryption.Keys {
	t.Helper()
	keys, err := encryption.Load(t.Context(), store, operator, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func row(name string) value.Context { return value.DefaultContext("secrets/ns/" + name) }

func encrypt(t *testing.T, with value.Transformer, text string, at value.Context) []byte {
	t.Helper()
	data, err := with.TransformToStorage(t.Context(), []byte(text), at)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestKeysMadeOnce has many replicas start at once on a new cluster: what one of them encrypts, all the others read.
func TestKeysMadeOnce(t *testing.T) {
	t.Parallel()
	db, operator := memory.New(), operatorKey(t)
	store := clusterStore(t, db, "a")
	all := make([]*encryption.Keys, 16)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = encryption.Load(t.Context(), store, operator, slog.New(slog.DiscardHandler)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	data := encrypt(t, all[0].Transformer(secrets, nil), "{}", row("a"))
	for i, keys := range all {
		plain, stale, err := keys.Transformer(secrets, nil).TransformFromStorage(t.Context(), data, row("a"))
		if err != nil || stale || string(plain) != "{}" {
			t.Errorf("replica %d reads %q, stale %v, %v", i, plain, stale, err)
		}
	}
}

// TestSwappedRows offers bytes in places that they were not written to.
func TestSwappedRows(t *testing.T) {
	t.Parallel()
	db, operator := memory.New(), operatorKey(t)
	one := load(t, clusterStore(t, db, "one"), operator).Transformer(secrets, nil)
	two := load(t, clusterStore(t, db, "two"), operator).Transformer(secrets, nil)
	data := encrypt(t, one, "{}", row("a"))
	changed := append([]byte{}, data...)
	changed[len(changed)-1] ^= 1
	for name, tc := range map[string]struct {
		by   value.Transformer
		data []byte
		at   value.Context
		err  error
	}{
		"own row":           {one, data, row("a"), nil},
		"row of another":    {one, data, row("b"), seal.ErrTampered},
		"another namespace": {one, data, value.DefaultContext("secrets/other/a"), seal.ErrTampered},
		"another resource":  {one, data, value.DefaultContext("configmaps/ns/a"), seal.ErrTampered},
		"another cluster":   {two, data, row("a"), seal.ErrWrongKey},
		"changed bytes":     {one, changed, row("a"), seal.ErrTampered},
	} {
		_, _, err := tc.by.TransformFromStorage(t.Context(), tc.data, tc.at)
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: %v, want %v", name, err, tc.err)
		}
	}
}

// TestPlainIsStale: what was stored before there was encryption is read, and asks to be written anew.
func TestPlainIsStale(t *testing.T) {
	t.Parallel()
	keys := load(t, clusterStore(t, memory.New(), "a"), operatorKey(t))
	plain, stale, err := keys.Transformer(secrets, nil).TransformFromStorage(t.Context(), []byte(`{"kind":"Secret"}`), row("a"))
	if err != nil || !stale || string(plain) != `{"kind":"Secret"}` {
		t.Errorf("got %q, stale %v, %v", plain, stale, err)
	}
	if keys.Transformer(schema.GroupResource{Resource: "configmaps"}, nil) != nil {
		t.Error("ConfigMaps are encrypted though nobody asked for it")
	}
}

// TestKeysNeverReplaced: keys that this replica cannot read stay as they are.
func TestKeysNeverReplaced(t *testing.T) {
	t.Parallel()
	store := clusterStore(t, memory.New(), "a")
	operator := operatorKey(t)
	load(t, store, operator)
	key := storage.Key{Resource: encryption.Resource, Name: "data"}
	before, err := store.Get(t.Context(), key, 0)
	if err != nil {
		t.Fatal(err)
	}
	try := func(with *seal.Keyring) error {
		_, err := encryption.Load(context.Background(), store, with, slog.New(slog.DiscardHandler))
		return err
	}
	if err := try(operatorKey(t)); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("with another key: %v", err)
	}
	for i, damaged := range []string{"{}", "nonsense", `{"sealed":"cmxrAQ=="}`} {
		if _, err := store.Commit(t.Context(), []storage.Op{{Key: key, Verb: storage.Update, Expect: before.Revision, Data: []byte(damaged)}}); err != nil {
			t.Fatal(err)
		}
		if err := try(operator); err == nil {
			t.Errorf("%s was taken for keys", damaged)
		}
		now, err := store.Get(t.Context(), key, 0)
		if err != nil || string(now.Data) != damaged {
			t.Fatalf("case %d: damaged keys were replaced: %v", i, fmt.Sprint(err))
		}
		before = now
	}
}
