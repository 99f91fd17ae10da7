package storagetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

// history makes a key, changes it n times, and returns the revisions.
func history(t *testing.T, s storage.Store, key storage.Key, n int, data string) []storage.Revision {
	t.Helper()
	revs := []storage.Revision{mustCommit(t, s, create(key, data)).Head}
	for range n {
		revs = append(revs, mustCommit(t, s, update(key, revs[len(revs)-1], data)).Head)
	}
	return revs
}

func testCompacted(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	key := pod("default", "a")
	revs := history(t, one, key, 9, `{}`)
	gone := mustCommit(t, one, create(pod("default", "gone"), `{}`), remove(key, revs[9])).Head
	floor := revs[5]
	before := changesBetween(t, two, floor, 0)
	if err := one.Compact(t.Context(), floor); err != nil {
		t.Fatal(err)
	}
	for _, s := range []storage.Store{one, two} {
		if got, err := s.Floor(t.Context()); err != nil || got != floor {
			t.Errorf("the floor is %d (error %v), want %d", got, err, floor)
		}
		for _, r := range revs[:5] {
			_, err := s.Changes(t.Context(), r, 0)
			wantErr(t, fmt.Sprintf("changes after %d", r), err, storage.ErrCompacted)
			_, err = s.Get(t.Context(), key, r)
			wantErr(t, fmt.Sprintf("get at %d", r), err, storage.ErrCompacted)
			_, err = s.List(t.Context(), storage.Selector{Resource: "pods"}, storage.ListOptions{Revision: r})
			wantErr(t, fmt.Sprintf("list at %d", r), err, storage.ErrCompacted)
		}
		if diff := cmp.Diff(before, changesBetween(t, s, floor, 0), sameChange); diff != "" {
			t.Errorf("changes after the floor (-before +now):\n%s", diff)
		}
		for _, r := range revs[5:] {
			obj, err := s.Get(t.Context(), key, r)
			if err != nil || obj.Revision != r {
				t.Errorf("get at %d, not below the floor: revision %d, error %v", r, obj.Revision, err)
			}
		}
	}
	// Never lowered, and repeating it does no harm.
	for _, r := range []storage.Revision{revs[2], floor} {
		if err := two.Compact(t.Context(), r); err != nil {
			t.Errorf("compact through %d again: %v", r, err)
		}
	}
	if got, err := one.Floor(t.Context()); err != nil || got != floor {
		t.Errorf("the floor is %d (error %v), want it still at %d", got, err, floor)
	}
	wantErr(t, "compact through the future", one.Compact(t.Context(), gone+1), storage.ErrFuture)
	if err := two.Compact(t.Context(), gone); err != nil {
		t.Errorf("compact through the head: %v", err)
	}
	batch, err := one.Changes(t.Context(), gone, 0)
	if err != nil || len(batch.Changes) != 0 {
		t.Errorf("changes after the head: %v, error %v", batch.Changes, err)
	}
	wantObject(t, one, pod("default", "gone"), storage.Object{Key: pod("default", "gone"), Revision: gone - 1, Data: []byte(`{}`)})
}

func testFuture(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	head := mustCommit(t, one, create(pod("default", "a"), `{}`)).Head
	for _, s := range []storage.Store{one, two} {
		_, err := s.Changes(t.Context(), head+1, 0)
		wantErr(t, "changes", err, storage.ErrFuture)
		_, err = s.Get(t.Context(), pod("default", "a"), head+1)
		wantErr(t, "get", err, storage.ErrFuture)
		_, err = s.List(t.Context(), storage.Selector{}, storage.ListOptions{Revision: head + 1})
		wantErr(t, "list", err, storage.ErrFuture)
		batch, err := s.Changes(t.Context(), head, 0)
		if err != nil || batch.Revision != head || len(batch.Changes) != 0 {
			t.Errorf("changes after the head: %+v, error %v", batch, err)
		}
	}
}

func testHorizon(t *testing.T, b Backend) {
	s := b.Open(t)
	const size = 1000
	revs := history(t, s, pod("default", "a"), 39, `"`+strings.Repeat("x", size-2)+`"`)
	head := revs[len(revs)-1]
	horizon := func(age time.Duration, bytes int64) storage.Revision {
		t.Helper()
		h, err := s.Horizon(t.Context(), age, bytes)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	floor, err := s.Floor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name      string
		age       time.Duration
		bytes     int64
		low, high storage.Revision // a driver may count overhead, or let go in larger pieces
	}{
		{"no bounds", 0, 0, floor, floor},
		{"wide bounds", time.Hour, 1 << 30, floor, floor},
		{"nothing is kept by age", time.Nanosecond, 0, head, head},
		{"almost no bytes", 0, 1, head, head},
		{"half of the bytes", 0, 40 * size, revs[15], revs[35]},
		{"the closer bound counts", time.Hour, 40 * size, revs[15], revs[35]},
	} {
		if got := horizon(tc.age, tc.bytes); got < tc.low || got > tc.high {
			t.Errorf("%s: got %d, want between %d and %d", tc.name, got, tc.low, tc.high)
		}
	}
	half := horizon(0, 40*size)
	if err := s.Compact(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	if got := horizon(0, 40*size); got != half {
		t.Errorf("after the compaction through %d there is more to let go, through %d", half, got)
	}
	if got := horizon(0, 0); got != half {
		t.Errorf("without bounds: got %d, want the floor %d", got, half)
	}
}
