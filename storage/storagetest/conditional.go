package storagetest

import (
	"testing"

	"github.com/rowlock-io/rowlock/storage"
)

func testConditional(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	key := pod("default", "a")
	made := mustCommit(t, one, create(key, `{"n":1}`)).Head
	second := mustCommit(t, two, update(key, made, `{"n":2}`)).Head
	absent := pod("default", "absent")

	for _, tc := range []struct {
		name string
		op   storage.Op
		want error
	}{
		{"create what exists", create(key, `{}`), storage.ErrExists},
		{"update at an old revision", update(key, made, `{}`), storage.ErrConflict},
		{"update at a future revision", update(key, second+1, `{}`), storage.ErrConflict},
		{"update expecting nothing", update(key, 0, `{}`), storage.ErrConflict},
		{"delete at an old revision", remove(key, made), storage.ErrConflict},
		{"update what is absent", update(absent, made, `{}`), storage.ErrNotFound},
		{"delete what is absent", remove(absent, made), storage.ErrNotFound},
		{"create too large", create(absent, string(make([]byte, storage.MaxObjectBytes+1))), storage.ErrTooLarge},
		{"update too large", update(key, second, string(make([]byte, storage.MaxObjectBytes+1))), storage.ErrTooLarge},
	} {
		for _, s := range []storage.Store{one, two} {
			done, err := s.Commit(t.Context(), []storage.Op{tc.op})
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			wantErr(t, tc.name, done.Results[0].Err, tc.want)
			if done.Head != second || done.Before.Revision != second {
				t.Errorf("%s: moved the head from %d to %d, want it at %d", tc.name, done.Before.Revision, done.Head, second)
			}
		}
		wantObject(t, two, key, storage.Object{Key: key, Revision: second, Data: []byte(`{"n":2}`)})
		_, err := two.Get(t.Context(), absent, 0)
		wantErr(t, tc.name+": get", err, storage.ErrNotFound)
	}

	gone := mustCommit(t, one, remove(key, second)).Head
	_, err := two.Get(t.Context(), key, 0)
	wantErr(t, "get after delete", err, storage.ErrNotFound)
	again := mustCommit(t, two, create(key, `{"n":3}`)).Head
	if again <= gone {
		t.Errorf("created again at %d, not after the deletion at %d", again, gone)
	}
	done, err := one.Commit(t.Context(), []storage.Op{update(key, second, `{}`)})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "update of the deleted incarnation", done.Results[0].Err, storage.ErrConflict)
}
