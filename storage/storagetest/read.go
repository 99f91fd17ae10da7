package storagetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

// testOneSnapshot pages through a list while another replica changes what it lists.
func testOneSnapshot(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	var want []storage.Object
	for i := range 20 {
		key, data := pod("default", fmt.Sprintf("p%02d", i)), fmt.Sprintf(`{"n":%d}`, i)
		r := mustCommit(t, one, create(key, data)).Head
		want = append(want, storage.Object{Key: key, Revision: r, Data: []byte(data)})
	}
	sel := storage.Selector{Resource: "pods", Namespace: "default"}
	page, err := two.List(t.Context(), sel, storage.ListOptions{Limit: 3})
	if err != nil {
		t.Fatal(err)
	}
	first := page.Position
	got := slices.Clone(page.Objects)
	for i := 0; page.More; i++ {
		// Before, at and behind the place where the list stands: gone, changed, new.
		last := got[len(got)-1].Name
		ops := []storage.Op{
			create(pod("default", last+"-new"), `{}`),
			create(pod("default", fmt.Sprintf("q%02d", i)), `{}`),
			update(want[len(want)-1-i].Key, want[len(want)-1-i].Revision, `{"changed":true}`),
		}
		if i < 3 {
			ops = append(ops, remove(want[i].Key, want[i].Revision), remove(want[10+i].Key, want[10+i].Revision))
		}
		mustCommit(t, one, ops...)
		opts := storage.ListOptions{Revision: first.Revision, After: got[len(got)-1].Key, Limit: 3}
		if page, err = []storage.Store{one, two}[i%2].List(t.Context(), sel, opts); err != nil {
			t.Fatal(err)
		}
		if page.Position != first {
			t.Errorf("page %d is at %v, the first was at %v", i+2, page.Position, first)
		}
		got = append(got, page.Objects...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("all pages (-want +got):\n%s", diff)
	}
}

// testPast reads every revision of a key's life.
func testPast(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	key := pod("default", "a")
	other := mustCommit(t, one, create(pod("default", "b"), `{"b":1}`)).Head
	made := mustCommit(t, one, create(key, `{"a":1}`)).Head
	changed := mustCommit(t, two, update(key, made, `{"a":2}`)).Head
	gone := mustCommit(t, one, remove(key, changed)).Head
	again := mustCommit(t, two, create(key, `{"a":3}`)).Head
	for _, tc := range []struct {
		at, revision storage.Revision
		data         string
	}{
		{other, 0, ""},
		{made, made, `{"a":1}`},
		{changed, changed, `{"a":2}`},
		{gone, 0, ""},
		{again, again, `{"a":3}`},
		{0, again, `{"a":3}`},
	} {
		var want []storage.Object
		got, err := one.Get(t.Context(), key, tc.at)
		if tc.revision == 0 {
			wantErr(t, fmt.Sprintf("get at %d", tc.at), err, storage.ErrNotFound)
		} else {
			want = append(want, storage.Object{Key: key, Revision: tc.revision, Data: []byte(tc.data)})
			if diff := cmp.Diff(want[0], got); diff != "" || err != nil {
				t.Errorf("get at %d: error %v (-want +got):\n%s", tc.at, err, diff)
			}
		}
		want = append(want, storage.Object{Key: pod("default", "b"), Revision: other, Data: []byte(`{"b":1}`)})
		page, err := two.List(t.Context(), storage.Selector{Resource: "pods"}, storage.ListOptions{Revision: tc.at})
		if diff := cmp.Diff(want, page.Objects); diff != "" || err != nil {
			t.Errorf("list at %d: error %v (-want +got):\n%s", tc.at, err, diff)
		}
		if tc.at != 0 && page.Revision != tc.at {
			t.Errorf("list at %d says it is at %d", tc.at, page.Revision)
		}
	}
	_, err := two.Get(t.Context(), pod("default", "never"), made)
	wantErr(t, "get of what never was", err, storage.ErrNotFound)
}

func testByteOrder(t *testing.T, b Backend) {
	s := b.Open(t)
	// In an order that no linguistic collation has, with names that are prefixes of others and bytes on both sides
	// of the separators that joined keys would use.
	names := []string{"A", "B", "a", "a!", "a-", "a-b", "a.b", "a/b", "aA", "a_", "aa", "ab", "b", "z", "~", "é", "ß", "中", "😀"}
	slices.Sort(names)
	var want []storage.Key
	for _, resource := range []string{"a", "a.b", "pods"} {
		for _, namespace := range []string{"", "n", "n-", "n/"} {
			for _, name := range names {
				want = append(want, storage.Key{Resource: resource, Namespace: namespace, Name: name})
			}
		}
	}
	ops := make([]storage.Op, len(want))
	for i, key := range want {
		ops[(i*131)%len(want)] = create(key, `{}`) // 131 has no common factor with the length: each place is taken once
	}
	for chunk := range slices.Chunk(ops, 50) {
		mustCommit(t, s, chunk...)
	}
	var got []storage.Key
	opts := storage.ListOptions{Limit: 7}
	for {
		page, err := s.List(t.Context(), storage.Selector{}, opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range page.Objects {
			got = append(got, obj.Key)
		}
		if !page.More {
			break
		}
		opts.After = got[len(got)-1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func testSelectors(t *testing.T, b Backend) {
	s := b.Open(t)
	var keys []storage.Key
	var ops []storage.Op
	for _, resource := range []string{"nodes", "pods", "pods.metrics.k8s.io"} {
		for _, namespace := range []string{"", "a", "ab", "b"} {
			for _, name := range []string{"x", "y"} {
				key := storage.Key{Resource: resource, Namespace: namespace, Name: name}
				keys = append(keys, key)
				ops = append(ops, create(key, `{}`))
			}
		}
	}
	at := mustCommit(t, s, ops...).Head
	var gone []storage.Op
	for i, op := range ops {
		if i%3 == 0 {
			gone = append(gone, remove(op.Key, at-storage.Revision(len(ops)-1-i)))
		}
	}
	mustCommit(t, s, gone...)
	for _, resource := range []string{"", "nodes", "pods", "none"} {
		for _, namespace := range []string{"", "a", "b", "none"} {
			for _, name := range []string{"", "x", "none"} {
				for _, after := range []storage.Key{{}, {Resource: "pods"}, {Resource: "pods", Namespace: "a", Name: "x"}, {Resource: "pods", Namespace: "aa", Name: "zz"}, {Resource: "z"}} {
					sel := storage.Selector{Resource: resource, Namespace: namespace, Name: name}
					for _, rev := range []storage.Revision{0, at} {
						var want, got []storage.Key
						for i, key := range keys {
							if sel.Matches(key) && key.Compare(after) > 0 && (rev == at || i%3 != 0) {
								want = append(want, key)
							}
						}
						page, err := s.List(t.Context(), sel, storage.ListOptions{After: after, Revision: rev})
						if err != nil {
							t.Fatal(err)
						}
						for _, obj := range page.Objects {
							got = append(got, obj.Key)
						}
						if diff := cmp.Diff(want, got); diff != "" || page.More {
							t.Errorf("%+v after %q at %d: more %v (-want +got):\n%s", sel, after, rev, page.More, diff)
						}
					}
				}
			}
		}
	}
}
