package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

// calls are all calls of a store that take a context.
func calls(s storage.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Get": func(ctx context.Context) error { _, err := s.Get(ctx, pod("default", "a"), 0); return err },
		"List": func(ctx context.Context) error {
			_, err := s.List(ctx, storage.Selector{}, storage.ListOptions{})
			return err
		},
		"Head":    func(ctx context.Context) error { _, err := s.Head(ctx); return err },
		"Changes": func(ctx context.Context) error { _, err := s.Changes(ctx, 1, 0); return err },
		"Floor":   func(ctx context.Context) error { _, err := s.Floor(ctx); return err },
		"Horizon": func(ctx context.Context) error { _, err := s.Horizon(ctx, time.Hour, 0); return err },
		"Compact": func(ctx context.Context) error { return s.Compact(ctx, 1) },
		"Ready":   s.Ready,
		"Commit": func(ctx context.Context) error {
			_, err := s.Commit(ctx, []storage.Op{create(pod("default", "cancelled"), `{}`)})
			return err
		},
	}
}

func testCancel(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	mustCommit(t, one, create(pod("default", "a"), `{}`))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // more often than a pool has connections
		for name, call := range calls(one) {
			wantErr(t, name, call(cancelled), context.Canceled)
		}
	}
	// Nothing that was cut off is held against the next calls.
	for name, call := range calls(two) {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s afterwards: %v", name, err)
		}
	}

	// A commit that has to wait for a parked one gives up when it is told to; where it did not wait, it was made.
	release := b.Hold(t, create(pod("default", "parked"), `{}`))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	waiting := pod("default", "waiting")
	_, err := two.Commit(ctx, []storage.Op{create(waiting, `{}`)})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, storage.ErrUnknown) && !errors.Is(err, storage.ErrBusy) {
		t.Errorf("a commit cut off while waiting: %v", err)
	}
	release()
	_, found := one.Get(t.Context(), waiting, 0)
	if err == nil && found != nil {
		t.Errorf("the commit was made, but: %v", found)
	}
	if err != nil && !errors.Is(err, storage.ErrUnknown) {
		wantErr(t, "what was not written", found, storage.ErrNotFound)
	}
	mustCommit(t, two, create(pod("default", "last"), `{}`))
}

func testClosed(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	mustCommit(t, one, create(pod("default", "a"), `{}`))
	for range 2 { // twice does no harm
		if err := one.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, call := range calls(one) {
		wantErr(t, name, call(t.Context()), storage.ErrClosed)
	}
	for name, call := range calls(two) {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s on another replica: %v", name, err)
		}
	}
}

func testWake(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	for i := range 5 {
		// Signals may be false, so what counts is that one comes after the commit. What came before is cleared away.
		select {
		case <-two.Wake():
		default:
		}
		op := create(pod("default", fmt.Sprint(i)), `{}`)
		op.Relaxed = i%2 == 1
		want := mustCommit(t, one, op).Head
		deadline := time.After(30 * time.Second)
		for seen := storage.Revision(0); seen < want; {
			select {
			case <-two.Wake():
				head, err := two.Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				seen = head.Revision
			case <-deadline:
				t.Fatalf("no signal after the commit of %d", want)
			}
		}
	}
}

// testRestart crashes without relaxed writes. Nothing is lost. A driver that cannot know this (its server may have failed
// over to a copy that lagged) may begin an epoch.
func testRestart(t *testing.T, b Backend) {
	one := b.Open(t)
	kept := mustCommit(t, one, create(pod("default", "kept"), `{"a":1}`), create(pod("default", "gone"), `{}`))
	mustCommit(t, one, remove(pod("default", "gone"), kept.Head))
	log := changesBetween(t, one, 1, 0)
	head, err := one.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.Crash(t)
	two := b.Open(t)
	now, err := two.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if now.Epoch > head.Epoch {
		if now.Revision <= head.Revision {
			t.Errorf("head is %v, which does not pass what was shown: %v", now, head)
		}
		_, err := two.Changes(t.Context(), head.Revision, 0)
		wantErr(t, "changes after a revision of the old epoch", err, storage.ErrCompacted)
	} else {
		if now != head {
			t.Errorf("head is %v, was %v", now, head)
		}
		if diff := cmp.Diff(log, changesBetween(t, two, 1, 0), sameChange); diff != "" {
			t.Errorf("the log (-before +after):\n%s", diff)
		}
	}
	wantObject(t, two, pod("default", "kept"), storage.Object{Key: pod("default", "kept"), Revision: kept.Before.Revision + 1, Data: []byte(`{"a":1}`)})
	next := mustCommit(t, two, create(pod("default", "gone"), `{}`))
	if next.Before != now {
		t.Errorf("the next commit began at %v, want %v", next.Before, now)
	}
}

func testIsolated(t *testing.T, b Backend) {
	db := b.Database(t)
	var stores []storage.Store
	for _, name := range []string{"red", "blue"} {
		if err := db.CreateCluster(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		s, err := db.OpenCluster(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		stores = append(stores, s)
	}
	red, blue := stores[0], stores[1]
	key := pod("default", "a")
	relaxed := create(pod("default", "r"), `{}`)
	relaxed.Relaxed = true
	made := mustCommit(t, red, create(key, `{"red":1}`)).Head
	mustCommit(t, red, relaxed)
	history(t, red, pod("default", "b"), 5, `{}`)

	if head, err := blue.Head(t.Context()); err != nil || head.Revision != 1 {
		t.Errorf("blue's head is %d (error %v), want 1", head.Revision, err)
	}
	for _, k := range []storage.Key{key, relaxed.Key} {
		_, err := blue.Get(t.Context(), k, 0)
		wantErr(t, "get", err, storage.ErrNotFound)
	}
	page, err := blue.List(t.Context(), storage.Selector{}, storage.ListOptions{})
	if err != nil || len(page.Objects) != 0 {
		t.Errorf("blue lists %d objects (error %v)", len(page.Objects), err)
	}
	if got := changesBetween(t, blue, 1, 0); len(got) != 0 {
		t.Errorf("blue has the changes %v", got)
	}
	done, err := blue.Commit(t.Context(), []storage.Op{update(key, made, `{}`)})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "update of red's object", done.Results[0].Err, storage.ErrNotFound)
	b1 := mustCommit(t, blue, create(key, `{"blue":1}`)).Head
	if err := blue.Compact(t.Context(), b1); err != nil {
		t.Fatal(err)
	}
	if floor, err := red.Floor(t.Context()); err != nil || floor != 1 {
		t.Errorf("red's floor is %d (error %v), want 1", floor, err)
	}
	wantObject(t, red, key, storage.Object{Key: key, Revision: made, Data: []byte(`{"red":1}`)})
	if err := db.DropCluster(t.Context(), "blue"); err != nil {
		t.Fatal(err)
	}
	wantObject(t, red, key, storage.Object{Key: key, Revision: made, Data: []byte(`{"red":1}`)})
}

func testCatalogue(t *testing.T, b Backend) {
	db := b.Database(t)
	before := clusterNames(t, db)
	for _, name := range []string{"b", "a", "ö"} {
		if err := db.CreateCluster(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, "create again", db.CreateCluster(t.Context(), "a"), storage.ErrExists)
	want := append(slices.Clone(before), "a", "b", "ö")
	slices.Sort(want)
	if diff := cmp.Diff(want, clusterNames(t, b.Database(t))); diff != "" {
		t.Errorf("clusters (-want +got):\n%s", diff)
	}
	old, err := db.OpenCluster(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = old.Close() })
	mustCommit(t, old, create(pod("default", "x"), `{}`))
	if err := db.DropCluster(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "never"} {
		_, err := db.OpenCluster(t.Context(), name)
		wantErr(t, "open "+name, err, storage.ErrNotFound)
		wantErr(t, "drop "+name, db.DropCluster(t.Context(), name), storage.ErrNotFound)
	}
	_, err = old.Commit(t.Context(), []storage.Op{create(pod("default", "y"), `{}`)})
	wantErr(t, "commit to a dropped cluster", err, storage.ErrNotFound)
	_, err = old.Get(t.Context(), pod("default", "x"), 0)
	wantErr(t, "get from a dropped cluster", err, storage.ErrNotFound)

	// A new one of the same name has nothing of the old.
	if err := db.CreateCluster(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	s, err := db.OpenCluster(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	_, err = s.Get(t.Context(), pod("default", "x"), 0)
	wantErr(t, "get of the old one's object", err, storage.ErrNotFound)
	if head, err := s.Head(t.Context()); err != nil || head.Revision != 1 {
		t.Errorf("a new cluster's head is %d (error %v), want 1", head.Revision, err)
	}
	if err := db.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
}

func clusterNames(t *testing.T, db storage.Database) []string {
	t.Helper()
	all, err := db.Clusters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range all {
		if since := time.Since(c.Created); since < -time.Hour || since > time.Hour {
			t.Errorf("cluster %q was created %v ago", c.Name, since)
		}
		names = append(names, c.Name)
	}
	return names
}
