package pki_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
)

func newKeys(t testing.TB, texts ...string) *seal.Keyring {
	t.Helper()
	if len(texts) == 0 {
		texts = []string{seal.Generate()}
	}
	keys, err := seal.Parse(strings.Join(texts, ""))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// newCluster returns as many replicas' handles on one new cluster as asked for.
func newCluster(t testing.TB, replicas int) []storage.Store {
	t.Helper()
	db := memory.New()
	t.Cleanup(func() { _ = db.Close() })
	if err := db.CreateCluster(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	stores := make([]storage.Store, replicas)
	for i := range stores {
		var err error
		if stores[i], err = db.OpenCluster(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
	}
	return stores
}

func load(t testing.TB, store pki.Store, keys *seal.Keyring) *pki.Identity {
	t.Helper()
	id, err := pki.Load(t.Context(), store, keys)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return id
}

// fingerprint is all that must be the same on every replica.
func fingerprint(t testing.TB, id *pki.Identity) []string {
	t.Helper()
	sa, err := pki.KeyID(&id.ServiceAccountKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return []string{string(id.ClusterCA.Bundle()), string(id.FrontProxyCA.Bundle()), sa}
}

func stored(t testing.TB, store storage.Store) storage.Object {
	t.Helper()
	page, err := store.List(t.Context(), storage.Selector{Resource: pki.Resource}, storage.ListOptions{})
	if err != nil || len(page.Objects) != 1 {
		t.Fatalf("stored identities: %d, %v; want 1", len(page.Objects), err)
	}
	return page.Objects[0]
}

func TestReplicasThatStartAtOnceAgree(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	for range 50 {
		stores := newCluster(t, 4)
		ids := make([]*pki.Identity, len(stores))
		var wg sync.WaitGroup
		for i := range stores {
			wg.Go(func() {
				var err error
				if ids[i], err = pki.Load(t.Context(), stores[i], keys); err != nil {
					t.Errorf("replica %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		for i := range ids {
			if diff := cmp.Diff(fingerprint(t, ids[0]), fingerprint(t, ids[i])); diff != "" {
				t.Fatalf("replica %d differs from replica 0:\n%s", i, diff)
			}
		}
	}
}

// lateReader answers its first Get as if the object were not there yet, as a replica sees it that reads just before
// another one writes.
type lateReader struct {
	storage.Store
	late bool
}

func (s *lateReader) Get(ctx context.Context, key storage.Key, at storage.Revision) (storage.Object, error) {
	if !s.late {
		s.late = true
		return storage.Object{}, storage.ErrNotFound
	}
	return s.Store.Get(ctx, key, at)
}

func TestLoserOfTheRaceRereads(t *testing.T) {
	t.Parallel()
	store, keys := newCluster(t, 1)[0], newKeys(t)
	first := load(t, store, keys)
	second := load(t, &lateReader{Store: store}, keys)
	if diff := cmp.Diff(fingerprint(t, first), fingerprint(t, second)); diff != "" {
		t.Error(diff)
	}
}

func TestLaterStartsWriteNothing(t *testing.T) {
	t.Parallel()
	store, keys := newCluster(t, 1)[0], newKeys(t)
	load(t, store, keys)
	before := stored(t, store)
	load(t, store, keys)
	if after := stored(t, store); after.Revision != before.Revision {
		t.Errorf("revision went from %d to %d", before.Revision, after.Revision)
	}
}

func TestStoredFormTellsNothing(t *testing.T) {
	t.Parallel()
	store := newCluster(t, 1)[0]
	load(t, store, newKeys(t))
	data := stored(t, store).Data
	if !json.Valid(data) {
		t.Error("stored data is not JSON")
	}
	for _, word := range []string{"PRIVATE KEY", "clusterCA"} {
		if bytes.Contains(data, []byte(word)) {
			t.Errorf("stored data shows %q", word)
		}
	}
}

func TestUnreadableIdentityIsKept(t *testing.T) {
	t.Parallel()
	right := newKeys(t)
	for name, tc := range map[string]struct {
		keys   *seal.Keyring
		change func(data []byte) []byte
		want   error
	}{
		"wrong key": {newKeys(t), bytes.Clone, seal.ErrWrongKey},
		"a bit flipped": {right, func(data []byte) []byte {
			var v map[string][]byte
			if err := json.Unmarshal(data, &v); err != nil {
				panic(err)
			}
			v["sealed"][100] ^= 1
			out, _ := json.Marshal(v)
			return out
		}, seal.ErrTampered},
		"emptied":  {right, func([]byte) []byte { return []byte(`{}`) }, seal.ErrTampered},
		"not JSON": {right, func([]byte) []byte { return []byte(`x`) }, pki.ErrFormat},
		"a newer version": {right, func([]byte) []byte {
			key := storage.Key{Resource: pki.Resource, Name: "control-plane"}
			out, _ := json.Marshal(map[string][]byte{"sealed": right.Seal([]byte(`{"version":99}`), key.String())})
			return out
		}, pki.ErrFormat},
		"another object's": {right, func([]byte) []byte {
			out, _ := json.Marshal(map[string][]byte{"sealed": right.Seal([]byte(`{"version":1}`), "elsewhere")})
			return out
		}, seal.ErrTampered},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newCluster(t, 1)[0]
			load(t, store, right)
			obj := stored(t, store)
			data := tc.change(obj.Data)
			done, err := store.Commit(t.Context(), []storage.Op{
				{Key: obj.Key, Verb: storage.Update, Expect: obj.Revision, Data: data},
			})
			if err != nil || done.Results[0].Err != nil {
				t.Fatal(err, done.Results)
			}
			if _, err := pki.Load(t.Context(), store, tc.keys); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if now := stored(t, store).Data; !bytes.Equal(now, data) {
				t.Errorf("the stored identity was replaced")
			}
		})
	}
}

func TestEncryptionKeyRotation(t *testing.T) {
	t.Parallel()
	oldKey, newKey := seal.Generate(), seal.Generate()
	store := newCluster(t, 1)[0]
	before := load(t, store, newKeys(t, oldKey))
	during := load(t, store, newKeys(t, newKey, oldKey))
	after := load(t, store, newKeys(t, newKey))
	for _, id := range []*pki.Identity{during, after} {
		if diff := cmp.Diff(fingerprint(t, before), fingerprint(t, id)); diff != "" {
			t.Errorf("identity changed:\n%s", diff)
		}
	}
}

func TestStoreErrorsPassThrough(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pki.Load(ctx, newCluster(t, 1)[0], newKeys(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestServiceAccountKeyID(t *testing.T) {
	t.Parallel()
	id := load(t, newCluster(t, 1)[0], newKeys(t))
	keys := id.ServiceAccountPublicKeys()
	if len(keys) != 1 || !keys[0].Equal(id.ServiceAccountKey().Public()) {
		t.Fatalf("public keys %v are not the signing key's", keys)
	}
	getter, err := serviceaccount.StaticPublicKeysGetter([]any{id.ServiceAccountKey()})
	if err != nil {
		t.Fatal(err)
	}
	want := getter.GetPublicKeys(t.Context(), "")[0].KeyID
	if got, err := pki.KeyID(keys[0]); err != nil || got != want {
		t.Errorf("key id %q, %v; upstream says %q", got, err, want)
	}
}

func BenchmarkFirstStart(b *testing.B) {
	keys := newKeys(b)
	for b.Loop() {
		load(b, newCluster(b, 1)[0], keys)
	}
}
