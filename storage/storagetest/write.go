package storagetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

func testIndependent(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	first := mustCommit(t, one, create(pod("default", "a"), `{}`), create(pod("default", "b"), `{}`))
	if first.Results[0].Revision == first.Results[1].Revision {
		t.Errorf("two ops share revision %d", first.Head)
	}
	done, err := two.Commit(t.Context(), []storage.Op{
		create(pod("default", "a"), `{}`),
		create(pod("default", "c"), `{"c":1}`),
		update(pod("default", "b"), first.Results[0].Revision, `{}`),
		remove(pod("default", "absent"), 1),
		update(pod("default", "d"), 5, string(make([]byte, storage.MaxObjectBytes+1))),
		remove(pod("default", "b-"), 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{
		storage.ErrExists, nil, storage.ErrConflict, storage.ErrNotFound, storage.ErrTooLarge, storage.ErrNotFound,
	} {
		wantErr(t, fmt.Sprintf("op %d", i), done.Results[i].Err, want)
	}
	if done.Before.Revision != first.Head || done.Head != first.Head+1 || done.Results[1].Revision != done.Head {
		t.Errorf("one op succeeded from %d to %d at %d, want from %d to the next", done.Before.Revision, done.Head, done.Results[1].Revision, first.Head)
	}
	wantObject(t, one, pod("default", "c"), storage.Object{Key: pod("default", "c"), Revision: done.Head, Data: []byte(`{"c":1}`)})

	mixed := mustCommit(t, one,
		update(pod("default", "a"), first.Results[0].Revision, `{"a":2}`),
		remove(pod("default", "b"), first.Results[1].Revision),
		create(pod("default", "e"), `{"e":1}`))
	for i, r := range mixed.Results {
		if want := mixed.Before.Revision + 1 + storage.Revision(i); r.Revision != want {
			t.Errorf("op %d got revision %d, want %d", i, r.Revision, want)
		}
	}
	want := []storage.Change{
		{Key: pod("default", "a"), Revision: mixed.Head - 2, Verb: storage.Update, Data: []byte(`{"a":2}`), Prev: []byte(`{}`), PrevRevision: first.Results[0].Revision},
		{Key: pod("default", "b"), Revision: mixed.Head - 1, Verb: storage.Delete, Prev: []byte(`{}`), PrevRevision: first.Results[1].Revision},
		{Key: pod("default", "e"), Revision: mixed.Head, Verb: storage.Create, Data: []byte(`{"e":1}`)},
	}
	if diff := cmp.Diff(want, changesBetween(t, two, mixed.Before.Revision, 0), sameChange); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
	empty, err := two.Commit(t.Context(), nil)
	if err != nil || empty.Head != mixed.Head {
		t.Errorf("an empty commit: head %d and error %v, want %d", empty.Head, err, mixed.Head)
	}
}

func testReadOwnWrites(t *testing.T, b Backend) {
	const rounds = 20
	writers := []storage.Store{b.Open(t), b.Open(t)}
	readers := []storage.Store{b.Open(t), writers[0], writers[1]}
	var all sync.WaitGroup
	for w, s := range writers {
		all.Go(func() {
			for i := range rounds {
				op := create(pod("default", fmt.Sprintf("%d-%d", w, i)), `{}`)
				op.Relaxed = i%3 == 2
				done, err := s.Commit(t.Context(), []storage.Op{op})
				if err != nil {
					t.Error(err)
					return
				}
				r := done.Results[0].Revision
				for _, other := range readers {
					sees(t, other, op.Key, r)
				}
			}
		})
	}
	all.Wait()
}

// sees checks every way of reading.
func sees(t *testing.T, s storage.Store, key storage.Key, r storage.Revision) {
	t.Helper()
	if head, err := s.Head(t.Context()); err != nil || head.Revision < r {
		t.Errorf("head is %d (error %v) after %d was committed", head.Revision, err, r)
	}
	if obj, err := s.Get(t.Context(), key, 0); err != nil || obj.Revision != r {
		t.Errorf("get found %d (error %v) after %d was committed", obj.Revision, err, r)
	}
	if obj, err := s.Get(t.Context(), key, r); err != nil || obj.Revision != r {
		t.Errorf("get at %d found %d (error %v)", r, obj.Revision, err)
	}
	page, err := s.List(t.Context(), storage.Selector{Resource: key.Resource, Namespace: key.Namespace, Name: key.Name}, storage.ListOptions{})
	if err != nil || len(page.Objects) != 1 || page.Revision < r {
		t.Errorf("list found %d objects at %d (error %v) after %d was committed", len(page.Objects), page.Revision, err, r)
	}
	batch, err := s.Changes(t.Context(), r-1, 1)
	if err != nil || len(batch.Changes) != 1 || batch.Changes[0].Revision != r || batch.Changes[0].Key != key {
		t.Errorf("changes after %d: %v (error %v), want %s", r-1, batch.Changes, err, key)
	}
}

func testMalformed(t *testing.T, b Backend) {
	s := b.Open(t)
	good := create(pod("default", "good"), `{}`)
	for name, bad := range map[string]storage.Op{
		"no verb":                {Key: pod("default", "x"), Data: []byte(`{}`)},
		"create with a revision": {Key: pod("default", "x"), Verb: storage.Create, Expect: 1, Data: []byte(`{}`)},
		"delete with data":       {Key: pod("default", "x"), Verb: storage.Delete, Expect: 1, Data: []byte(`{}`)},
		"no name":                create(pod("default", ""), `{}`),
		"no resource":            create(storage.Key{Name: "x"}, `{}`),
		"NUL":                    create(pod("default", "a\x00b"), `{}`),
		"not UTF-8":              create(pod("default", "a\xff"), `{}`),
		"the same key again":     good,
	} {
		if _, err := s.Commit(t.Context(), []storage.Op{good, bad}); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
	_, err := s.Get(t.Context(), good.Key, 0)
	wantErr(t, "the op beside them", err, storage.ErrNotFound)
	if head, err := s.Head(t.Context()); err != nil || head.Revision != 1 {
		t.Errorf("head is %d (error %v), want 1", head.Revision, err)
	}
}
