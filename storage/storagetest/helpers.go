package storagetest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

func pod(namespace, name string) storage.Key {
	return storage.Key{Resource: "pods", Namespace: namespace, Name: name}
}

func create(k storage.Key, data string) storage.Op {
	return storage.Op{Key: k, Verb: storage.Create, Data: []byte(data)}
}

func update(k storage.Key, expect storage.Revision, data string) storage.Op {
	return storage.Op{Key: k, Verb: storage.Update, Expect: expect, Data: []byte(data)}
}

func remove(k storage.Key, expect storage.Revision) storage.Op {
	return storage.Op{Key: k, Verb: storage.Delete, Expect: expect}
}

// mustCommit commits ops that all have to succeed.
func mustCommit(t testing.TB, s storage.Store, ops ...storage.Op) storage.Committed {
	t.Helper()
	done, err := s.Commit(t.Context(), ops)
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	for i, r := range done.Results {
		if r.Err != nil {
			t.Fatalf("commit of op %d on %s: %v", i, ops[i].Key, r.Err)
		}
	}
	return done
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func wantObject(t testing.TB, s storage.Store, k storage.Key, want storage.Object) {
	t.Helper()
	got, err := s.Get(t.Context(), k, 0)
	if err != nil {
		t.Errorf("get %s: %v", k, err)
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("get %s (-want +got):\n%s", k, diff)
	}
}

// sameChange leaves the time out, which belongs to the database's clock.
var sameChange = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Time" }, cmp.Ignore()),
	cmp.FilterValues(func(a, b []storage.Change) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore()),
}

// changesBetween returns the log after one revision and up to another (0: all).
func changesBetween(t testing.TB, s storage.Store, after, through storage.Revision) []storage.Change {
	t.Helper()
	var out []storage.Change
	for _, ch := range pagedChanges(t, s, after, 0) {
		if through == 0 || ch.Revision <= through {
			out = append(out, ch)
		}
	}
	return out
}

// pagedChanges returns the log after a revision, read in batches.
func pagedChanges(t testing.TB, s storage.Store, after storage.Revision, limit int) []storage.Change {
	t.Helper()
	var out []storage.Change
	for {
		b, err := s.Changes(t.Context(), after, limit)
		if err != nil {
			t.Fatalf("changes after %d: %v", after, err)
		}
		if limit > 0 && len(b.Changes) > limit {
			t.Fatalf("got %d changes, asked for at most %d", len(b.Changes), limit)
		}
		if b.Revision < after {
			t.Fatalf("a batch after %d speaks only for %d", after, b.Revision)
		}
		out = append(out, b.Changes...)
		if len(b.Changes) == 0 {
			return out
		}
		after = b.Revision
	}
}
