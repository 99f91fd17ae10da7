package storagetest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

func relaxed(op storage.Op) storage.Op {
	op.Relaxed = true
	return op
}

// testRelaxed mixes relaxed and durable writes, crashes, and looks for a revision that is shown twice.
func testRelaxed(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	lease, event := storage.Key{Resource: "leases", Namespace: "n", Name: "l"}, storage.Key{Resource: "events", Namespace: "n", Name: "e"}
	durable := pod("n", "p")

	first := mustCommit(t, one, relaxed(create(lease, `{"l":1}`)))
	sees(t, two, lease, first.Head)
	second := mustCommit(t, two, relaxed(update(lease, first.Head, `{"l":2}`)))
	sees(t, one, lease, second.Head)
	done, err := one.Commit(t.Context(), []storage.Op{relaxed(update(lease, first.Head, `{}`))})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "relaxed update at an old revision", done.Results[0].Err, storage.ErrConflict)
	sees(t, one, lease, second.Head)
	if obj, err := one.Get(t.Context(), lease, first.Head); err != nil || string(obj.Data) != `{"l":1}` {
		t.Errorf("get at %d: %s, error %v", first.Head, obj.Data, err)
	}

	// A durable write takes everything before it to the disk.
	third := mustCommit(t, one, create(durable, `{"p":1}`))
	sees(t, two, durable, third.Head)
	sees(t, two, lease, second.Head)
	safe := changesBetween(t, two, 1, 0)
	if len(safe) != 3 {
		t.Errorf("the log has %d changes, want 3", len(safe))
	}

	// Mixed, made and deleted again, in one commit and over several.
	fourth := mustCommit(t, two, relaxed(create(event, `{"e":1}`)), relaxed(remove(lease, second.Head)))
	if _, err := one.Get(t.Context(), lease, 0); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("get of a deleted lease: %v", err)
	}
	shown := mustCommit(t, one, relaxed(create(lease, `{"l":3}`))).Head
	wantList := []storage.Object{
		{Key: event, Revision: fourth.Head - 1, Data: []byte(`{"e":1}`)},
		{Key: lease, Revision: shown, Data: []byte(`{"l":3}`)},
		{Key: durable, Revision: third.Head, Data: []byte(`{"p":1}`)},
	}
	page, err := two.List(t.Context(), storage.Selector{}, storage.ListOptions{})
	if diff := cmp.Diff(wantList, page.Objects); diff != "" || err != nil || page.Revision != shown {
		t.Errorf("list at %d, error %v (-want +got):\n%s", page.Revision, err, diff)
	}
	before, err := two.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log := changesBetween(t, one, 1, 0)

	b.Crash(t)
	afterCrash(t, b, before, safe, log)
}

func afterCrash(t *testing.T, b Backend, before storage.Position, safe, log []storage.Change) {
	s := b.Open(t)
	now, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, pod("n", "p"), storage.Object{Key: pod("n", "p"), Revision: safe[2].Revision, Data: []byte(`{"p":1}`)})
	lease, err := s.Get(t.Context(), safe[1].Key, 0)
	if now.Epoch == before.Epoch {
		// Nothing was lost, so everything has to be there.
		if now != before {
			t.Errorf("head is %v, was %v", now, before)
		}
		if diff := cmp.Diff(log, changesBetween(t, s, 1, 0), sameChange); diff != "" {
			t.Errorf("the log (-before +after):\n%s", diff)
		}
		return
	}
	if now.Epoch < before.Epoch || now.Revision <= before.Revision {
		t.Errorf("head is %v, which does not pass what was shown: %v", now, before)
	}
	if err != nil || lease.Revision < safe[1].Revision {
		t.Errorf("the lease is at %d (error %v), it was on disk at %d", lease.Revision, err, safe[1].Revision)
	}
	// A watcher that saw the lost changes must not go on as if nothing had happened.
	for _, r := range []storage.Revision{safe[0].Revision, before.Revision} {
		_, err := s.Changes(t.Context(), r, 0)
		wantErr(t, "changes after a revision of the old epoch", err, storage.ErrCompacted)
		_, err = s.List(t.Context(), storage.Selector{}, storage.ListOptions{Revision: r})
		wantErr(t, "list at a revision of the old epoch", err, storage.ErrCompacted)
	}
	next := mustCommit(t, s, create(pod("n", "next"), `{}`), relaxed(create(pod("n", "relaxed"), `{}`)))
	if next.Before != now || next.Head != now.Revision+2 {
		t.Errorf("the next commit went from %v to %d, want from %v", next.Before, next.Head, now)
	}
	if got := changesBetween(t, s, now.Revision, 0); len(got) != 2 {
		t.Errorf("the new epoch's log has %d changes, want 2", len(got))
	}
}
