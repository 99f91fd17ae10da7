package encryption_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/encryption"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
	"github.com/rowlock-io/rowlock/storage/postgres"
)

// rewrite is what rowlock encryption rewrite does to a cluster.
func rewrite(t *testing.T, store storage.Store, operator *seal.Keyring, p *encryption.Providers) (encryption.Rewritten, error) {
	t.Helper()
	return (&encryption.Rewrite{
		Keys: load(t, store, operator), Providers: p, Objects: encryption.Objects(store),
		Commit: func(ctx context.Context, ops []storage.Op) ([]storage.Result, error) {
			done, err := store.Commit(ctx, ops)
			return done.Results, err
		},
	}).Run(t.Context())
}

func rotate(t *testing.T, store storage.Store, operator *seal.Keyring) seal.KeyID {
	t.Helper()
	added, err := encryption.AddKey(t.Context(), store, operator)
	if err != nil {
		t.Fatal(err)
	}
	promoted, err := encryption.PromoteKey(t.Context(), store, operator)
	if err != nil || promoted != added {
		t.Fatalf("added %s, promoted %s: %v", added, promoted, err)
	}
	return promoted
}

func keyOf(t *testing.T, data []byte) seal.KeyID {
	t.Helper()
	id, ok := encryption.UsedKey(data)
	if !ok {
		t.Fatalf("%.40q is not encrypted with a generated key", data)
	}
	return id
}

// TestRotateBeneathReplicas rotates while two replicas serve: each reads what the other writes at every moment, both take the
// key over, and what is rewritten reads as before, now and in the past.
func TestRotateBeneathReplicas(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		rotateBeneathReplicas(t, memory.New())
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		db, err := postgres.Open(t.Context(), postgres.Config{URL: postgresServer.Database(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		rotateBeneathReplicas(t, db)
	})
}

func rotateBeneathReplicas(t *testing.T, db storage.Database) {
	operator := operatorKey(t)
	one, two := serve(t, db, operator, nil).Client(t, servertest.Default), serve(t, db, operator, nil).Client(t, servertest.Default)
	store := clusterStore(t, db, servertest.Default)
	create(t, one, "before")
	readable(t, two, "before")
	then, err := one.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := keyOf(t, stored(t, db, "secrets", "before"))

	added, err := encryption.AddKey(t.Context(), store, operator)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := encryption.AddKey(t.Context(), store, operator); err != nil || again != added {
		t.Errorf("a rotation that was cut short does not go on: %s, then %s, %v", added, again, err)
	}
	create(t, one, "between")
	readable(t, two, "between")
	if got := keyOf(t, stored(t, db, "secrets", "between")); got != first {
		t.Errorf("%s encrypts before it was promoted", got)
	}
	if _, err := encryption.PromoteKey(t.Context(), store, operator); err != nil {
		t.Fatal(err)
	}
	if _, err := encryption.PromoteKey(t.Context(), store, operator); !errors.Is(err, encryption.ErrNoNext) {
		t.Errorf("promoted twice: %v", err)
	}
	for i, done := 0, false; !done; i++ {
		byOne, byTwo := fmt.Sprintf("one-%d", i), fmt.Sprintf("two-%d", i)
		create(t, one, byOne)
		readable(t, two, byOne)
		create(t, two, byTwo)
		readable(t, one, byTwo)
		done = keyOf(t, stored(t, db, "secrets", byOne)) == added && keyOf(t, stored(t, db, "secrets", byTwo)) == added
	}
	if done, err := rewrite(t, store, operator, nil); err != nil || done.Written < 2 || done.Unreadable != 0 {
		t.Errorf("rewrite: %+v, %v", done, err)
	}
	for _, name := range []string{"before", "between"} {
		if got := keyOf(t, stored(t, db, "secrets", name)); got != added {
			t.Errorf("%s is still encrypted with %s", name, got)
		}
		readable(t, one, name)
		readable(t, two, name)
	}
	for _, client := range []struct {
		list func() (*corev1.SecretList, error)
	}{
		{func() (*corev1.SecretList, error) {
			return one.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{ResourceVersion: then.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
		}},
		{func() (*corev1.SecretList, error) {
			return serve(t, db, operator, nil).Client(t, servertest.Default).CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{ResourceVersion: then.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
		}},
	} {
		if past, err := client.list(); err != nil || len(past.Items) != 1 || string(past.Items[0].Data["k"]) != needle {
			t.Errorf("the past reads as %v, %v", past, err)
		}
	}
}

// flaky is a store whose commit number fail is cut off, before or after it happened.
type flaky struct {
	storage.Store
	fail, count int
	after       bool
}

var errCut = errors.New("cut off")

func (f *flaky) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	f.count++
	if f.count != f.fail {
		return f.Store.Commit(ctx, ops)
	}
	if f.after {
		_, _ = f.Store.Commit(ctx, ops)
	}
	return storage.Committed{}, errCut
}

// TestCutShort ends a rotation, a rewrite and a change of the operator's key at each of their commits, and runs them again.
func TestCutShort(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		cut := true
		for fail := 1; cut; fail++ {
			db, operator := memory.New(), operatorKey(t)
			store := clusterStore(t, db, "a")
			fill(t, store, load(t, store, operator))
			both := seal.Join(operatorKey(t), operator)
			work := func(store storage.Store) error {
				if _, err := encryption.AddKey(t.Context(), store, operator); err != nil {
					return err
				}
				if _, err := encryption.PromoteKey(t.Context(), store, operator); err != nil && !errors.Is(err, encryption.ErrNoNext) {
					return err
				}
				if _, err := rewrite(t, store, operator, nil); err != nil {
					return err
				}
				return encryption.Reseal(t.Context(), store, both)
			}
			err := work(&flaky{Store: store, fail: fail, after: after})
			if cut = errors.Is(err, errCut); cut {
				// What it was cut off from may have been sealed with the new key already: both are given to the next run.
				operator = both
				err = work(store)
			}
			if err != nil {
				t.Fatalf("cut at %d: %v", fail, err)
			}
			checkFilled(t, store, load(t, store, both))
		}
	}
}

const filled = 150 // several commits of a rewrite

func fill(t *testing.T, store storage.Store, keys *encryption.Keys) {
	t.Helper()
	var ops []storage.Op
	for i := range filled {
		key := storage.Key{Resource: "secrets", Namespace: "ns", Name: fmt.Sprint(i)}
		plain := []byte(fmt.Sprintf(`{"metadata":{"name":"%d"}}`, i))
		if i%2 == 0 {
			plain = encrypt(t, keys.Transformer(secrets, nil), string(plain), row(fmt.Sprint(i)))
		}
		ops = append(ops, storage.Op{Key: key, Verb: storage.Create, Data: plain})
	}
	if _, err := store.Commit(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
}

// checkFilled tells that all is there, and encrypted with the key of the day.
func checkFilled(t *testing.T, store storage.Store, keys *encryption.Keys) {
	t.Helper()
	seen := 0
	for obj, err := range encryption.Objects(store)(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if obj.Resource != "secrets" {
			continue
		}
		seen++
		plain, stale, err := keys.Transformer(secrets, nil).TransformFromStorage(t.Context(), obj.Data, row(obj.Name))
		if want := fmt.Sprintf(`{"metadata":{"name":"%s"}}`, obj.Name); err != nil || stale || string(plain) != want {
			t.Errorf("%s reads as %q, stale %v, %v", obj.Name, plain, stale, err)
		}
	}
	if seen != filled {
		t.Errorf("%d objects are there, want %d", seen, filled)
	}
}

// TestRewriteLosesNoWrite changes objects while they are rewritten.
func TestRewriteLosesNoWrite(t *testing.T) {
	t.Parallel()
	db, operator := memory.New(), operatorKey(t)
	store := clusterStore(t, db, "a")
	keys := load(t, store, operator)
	fill(t, store, keys)
	changed := map[storage.Key]bool{}
	run := encryption.Rewrite{
		Keys: keys, Objects: encryption.Objects(store),
		Commit: func(ctx context.Context, ops []storage.Op) ([]storage.Result, error) {
			if op := ops[0]; !changed[op.Key] && len(changed) < 5 { // somebody is quicker with the first of them
				changed[op.Key] = true
				if _, err := store.Commit(ctx, []storage.Op{{Key: op.Key, Verb: storage.Update, Expect: op.Expect, Data: []byte(`{"changed":true}`)}}); err != nil {
					return nil, err
				}
			}
			done, err := store.Commit(ctx, ops)
			return done.Results, err
		},
	}
	if _, err := run.Run(t.Context()); err != nil || len(changed) == 0 {
		t.Fatalf("%d changed, %v", len(changed), err)
	}
	for key := range changed {
		obj, err := store.Get(t.Context(), key, 0)
		if err != nil {
			t.Fatal(err)
		}
		plain, stale, err := keys.Transformer(secrets, nil).TransformFromStorage(t.Context(), obj.Data, row(key.Name))
		if err != nil || stale || string(plain) != `{"changed":true}` {
			t.Errorf("%s reads as %q, stale %v, %v", key, plain, stale, err)
		}
	}
}

// TestRewriteMovesBetweenProviders goes from generated keys to a provider, to plain, and back.
func TestRewriteMovesBetweenProviders(t *testing.T) {
	t.Parallel()
	db, operator := memory.New(), operatorKey(t)
	store := clusterStore(t, db, "a")
	fill(t, store, load(t, store, operator))
	aes := provider("aesgcm", "one")
	for _, step := range []struct {
		providers *encryption.Providers
		scheme    string
	}{
		{writeConfig(t, configuration(rule{"secrets", []string{aes, identityProvider}})).open(t), "aesgcm:v1:one"},
		{writeConfig(t, configuration(rule{"secrets", []string{provider("secretbox", "two"), aes}})).open(t), ""},
	} {
		if _, err := rewrite(t, store, operator, step.providers); err != nil {
			t.Fatal(err)
		}
		if step.scheme == "" {
			step.scheme = "secretbox:v1:two"
		}
		present, _, err := encryption.Survey(t.Context(), store, false)
		if got := present.Schemes["secrets"]; err != nil || len(got) != 1 || got[step.scheme] != filled {
			t.Errorf("want all as %s: %v, %v", step.scheme, got, err)
		}
	}
	// As with kube-apiserver, what is plain is read only where identity is a provider.
	if _, err := store.Commit(t.Context(), []storage.Op{{Key: storage.Key{Resource: "secrets", Namespace: "ns", Name: "plain"}, Verb: storage.Create, Data: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	strict := writeConfig(t, configuration(rule{"secrets", []string{provider("aesgcm", "three"), aes}})).open(t)
	if done, err := rewrite(t, store, operator, strict); err != nil || done.Unreadable != filled+1 || done.Written != 0 {
		t.Errorf("without identity: %+v, %v", done, err)
	}
	// Without the provider nothing can be read, and all stays as it is.
	if done, err := rewrite(t, store, operator, nil); err != nil || done.Unreadable != filled || done.Written != 1 {
		t.Errorf("without the provider: %+v, %v", done, err)
	}
}

// TestPrune takes away only keys that nothing needs, and not at once.
func TestPrune(t *testing.T) {
	t.Parallel()
	db, operator := memory.New(), operatorKey(t)
	store := clusterStore(t, db, "a")
	fill(t, store, load(t, store, operator))
	rotate(t, store, operator)
	if _, err := rewrite(t, store, operator, nil); err != nil {
		t.Fatal(err)
	}
	prune := func(at time.Time) int {
		present, past, err := encryption.Survey(t.Context(), store, true)
		if err != nil {
			t.Fatal(err)
		}
		for id := range past.Keys {
			present.Keys[id] = true
		}
		gone, err := encryption.Prune(t.Context(), store, operator, present.Keys, at)
		if err != nil {
			t.Fatal(err)
		}
		return len(gone)
	}
	later := time.Now().Add(2 * encryption.RetiredFor)
	if n := prune(later); n != 0 {
		t.Errorf("%d keys are gone that the history needs", n)
	}
	head, err := store.Head(t.Context())
	if err == nil {
		err = store.Compact(t.Context(), head.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := prune(time.Now()); n != 0 {
		t.Errorf("%d keys are gone that were in use a moment ago", n)
	}
	if n := prune(later); n != 1 {
		t.Errorf("%d keys are gone, want 1", n)
	}
	checkFilled(t, store, load(t, store, operator))
}

// TestUpgrade starts a server on Secrets that are stored plain: they are read, and encrypted without anybody's doing.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	db, operator := memory.New(), operatorKey(t)
	plain := writeConfig(t, configuration(rule{"secrets", []string{identityProvider}})).open(t)
	old := serve(t, db, operator, plain)
	create(t, old.Client(t, servertest.Default), "a")
	hasPrefix(t, stored(t, db, "secrets", "a"), "{")
	client := serve(t, db, operator, nil).Client(t, servertest.Default)
	readable(t, client, "a")
	for !bytes.HasPrefix(stored(t, db, "secrets", "a"), []byte("k8s:enc:rowlock:v1:")) {
		time.Sleep(time.Millisecond)
	}
	readable(t, client, "a")
	readable(t, old.Client(t, servertest.Default), "a") // whatever it is configured with
}

// TestUnreadableStaysAlone: one Secret that nobody can decrypt is an error of its own, stays as it is, and stops nothing else.
func TestUnreadableStaysAlone(t *testing.T) {
	t.Parallel()
	db, operator := memory.New(), operatorKey(t)
	first := serve(t, db, operator, nil)
	create(t, first.Client(t, servertest.Default), "good")
	store := clusterStore(t, db, servertest.Default)
	bad := encrypt(t, load(t, clusterStore(t, db, "other"), operator).Transformer(secrets, nil), "{}", row("bad"))
	key := storage.Key{Resource: "secrets", Namespace: "default", Name: "bad"}
	if _, err := store.Commit(t.Context(), []storage.Op{{Key: key, Verb: storage.Create, Data: bad}}); err != nil {
		t.Fatal(err)
	}
	client := serve(t, db, operator, nil).Client(t, servertest.Default)
	api := client.CoreV1().Secrets("default")
	readable(t, client, "good")
	watch, err := api.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=new"})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	create(t, client, "new")
	if ev := <-watch.ResultChan(); ev.Type != "ADDED" || ev.Object.(*corev1.Secret).Name != "new" {
		t.Errorf("watch: %v", ev)
	}
	if _, err := client.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("other resources: %v", err)
	}
	_, getErr := api.Get(t.Context(), "bad", metav1.GetOptions{})
	_, listErr := api.List(t.Context(), metav1.ListOptions{})
	_, updateErr := api.Update(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bad"}}, metav1.UpdateOptions{})
	for verb, err := range map[string]error{
		"get": getErr, "list": listErr, "update": updateErr, "delete": api.Delete(t.Context(), "bad", metav1.DeleteOptions{}),
	} {
		if !apierrors.IsInternalError(err) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if now := stored(t, db, "secrets", "bad"); !bytes.Equal(now, bad) {
		t.Error("what could not be read was replaced")
	}
	if done, err := rewrite(t, store, operator, nil); err != nil || done.Unreadable != 1 {
		t.Errorf("rewrite: %+v, %v", done, err)
	}
	if now := stored(t, db, "secrets", "bad"); !bytes.Equal(now, bad) {
		t.Error("what could not be read was rewritten")
	}
}
