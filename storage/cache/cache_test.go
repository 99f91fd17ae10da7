package cache_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// database makes an empty cluster and returns a function that opens one more replica's store on it.
func database(t testing.TB) func() storage.Store {
	t.Helper()
	db := memory.New()
	if err := db.CreateCluster(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	return func() storage.Store {
		s, err := db.OpenCluster(t.Context(), "c")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// start runs a cache until the test ends, and waits until it is ready.
func start(t testing.TB, cfg cache.Config) *cache.Cache {
	t.Helper()
	c, _ := startFor(t, cfg)
	return c
}

// startFor is start with a function that ends the cache early and returns what Run returned.
func startFor(t testing.TB, cfg cache.Config) (*cache.Cache, func() error) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	c := cache.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-c.Ready():
	case err := <-done:
		done <- err
		t.Fatalf("Run before ready: %v", err)
	}
	return c, stop
}

func key(resource, namespace, name string) storage.Key {
	return storage.Key{Resource: resource, Namespace: namespace, Name: name}
}

func pod(namespace, name string) storage.Key { return key("pods", namespace, name) }

func create(k storage.Key, data string) storage.Op {
	return storage.Op{Key: k, Verb: storage.Create, Data: []byte(data)}
}

func update(k storage.Key, expect storage.Revision, data string) storage.Op {
	return storage.Op{Key: k, Verb: storage.Update, Expect: expect, Data: []byte(data)}
}

func remove(k storage.Key, expect storage.Revision) storage.Op {
	return storage.Op{Key: k, Verb: storage.Delete, Expect: expect}
}

// commit writes and fails the test if any op failed; it returns the revision of the last.
func commit(t testing.TB, s storage.Store, ops ...storage.Op) storage.Committed {
	t.Helper()
	done, err := s.Commit(t.Context(), ops)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	for i, r := range done.Results {
		if r.Err != nil {
			t.Fatalf("Commit %v: %v", ops[i].Key, r.Err)
		}
	}
	return done
}

// apply commits and applies.
func apply(t testing.TB, s storage.Store, c *cache.Cache, ops ...storage.Op) storage.Revision {
	t.Helper()
	done := commit(t, s, ops...)
	c.Apply(ops, nil, done)
	return done.Head
}

func waitFor(t testing.TB, c *cache.Cache, rev storage.Revision) {
	t.Helper()
	if err := c.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
}

func watch(t testing.TB, c *cache.Cache, sel storage.Selector, after storage.Revision) *cache.Watcher {
	t.Helper()
	w, err := c.Watch(t.Context(), sel, after)
	if err != nil {
		t.Fatalf("Watch %+v after %d: %v", sel, after, err)
	}
	t.Cleanup(w.Close)
	return w
}

// collect reads until the watcher has come through rev.
func collect(t testing.TB, w *cache.Watcher, rev storage.Revision) []cache.Change {
	t.Helper()
	var got []cache.Change
	for {
		b, err := w.TryNext()
		if err != nil {
			t.Fatalf("TryNext: %v", err)
		}
		if len(b.Changes) == 0 && b.Through < rev {
			w.Wake() // or Next would wait for a change that another selection may have got
			if b, err = w.Next(t.Context()); err != nil {
				t.Fatalf("Next: %v", err)
			}
		}
		got = append(got, b.Changes...)
		if b.Through >= rev {
			return got
		}
	}
}

// show renders changes for comparison.
func show(changes []cache.Change) []string {
	var out []string
	for _, c := range changes {
		s := fmt.Sprintf("%d %s %s", c.Entry.Revision, [...]string{"", "create", "update", "delete"}[c.Verb], c.Entry.Key)
		s += fmt.Sprintf(" %q", bytesOf(c.Entry))
		if c.Prev != nil {
			s += fmt.Sprintf(" was %d %q", c.Prev.Revision, bytesOf(c.Prev))
		}
		out = append(out, s)
	}
	return out
}

func TestGetSnapshotWatch(t *testing.T) {
	t.Parallel()
	open := database(t)
	s, foreign := open(), open()
	commit(t, s, create(pod("a", "x"), "1"), create(pod("b", "y"), "1"), create(key("nodes", "", "n"), "1"))
	c := start(t, cache.Config{Store: s})
	w := watch(t, c, storage.Selector{Resource: "pods"}, c.Position().Revision)
	wa := watch(t, c, storage.Selector{Resource: "pods", Namespace: "a"}, c.Position().Revision)
	all := watch(t, c, storage.Selector{}, c.Position().Revision)
	if changed := c.Snapshot("pods").Changed(); changed != 0 {
		t.Fatalf("changed at %d, before anything did", changed)
	}

	e, at := c.Get(pod("a", "x"))
	if e == nil || bytesOf(e) != "1" || at.Revision != 4 {
		t.Fatalf("Get: %v at %v", e, at)
	}
	rev := apply(t, s, c, update(pod("a", "x"), 2, "2"), remove(pod("b", "y"), 3))
	if e, at := c.Get(pod("a", "x")); e == nil || bytesOf(e) != "2" || at.Revision != rev {
		t.Fatalf("Get after Apply: %v at %v", e, at)
	}
	rev = commit(t, foreign, create(pod("c", "z"), "3"), create(key("nodes", "", "m"), "1")).Head
	waitFor(t, c, rev)
	snap := c.Snapshot("pods")
	if snap.Revision() != rev || snap.Len() != 2 || snap.Get("c", "z") == nil {
		t.Fatalf("Snapshot at %d of %d", snap.Revision(), snap.Len())
	}
	if snap.Changed() != 7 || c.Snapshot("nodes").Changed() != rev {
		t.Fatalf("pods changed last at %d, nodes at %d, want 7 and %d", snap.Changed(), c.Snapshot("nodes").Changed(), rev)
	}
	pods := []string{
		`5 update pods/a/x "2" was 2 "1"`, `6 delete pods/b/y "1" was 3 "1"`, `7 create pods/c/z "3"`,
	}
	equal(t, "pods", show(collect(t, w, rev)), pods)
	equal(t, "pods in a", show(collect(t, wa, rev)), pods[:1])
	equal(t, "all", show(collect(t, all, rev)), append(pods, `8 create nodes/m "1"`))
}
