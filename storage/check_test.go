package storage

import (
	"errors"
	"testing"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	large := make([]byte, MaxObjectBytes+1)
	for _, tc := range []struct {
		name  string
		op    Op
		found Revision
		want  error
	}{
		{"create", Op{Verb: Create}, 0, nil},
		{"create what exists", Op{Verb: Create}, 3, ErrExists},
		{"update", Op{Verb: Update, Expect: 3}, 3, nil},
		{"update of another revision", Op{Verb: Update, Expect: 3}, 4, ErrConflict},
		{"update of nothing", Op{Verb: Update, Expect: 3}, 0, ErrNotFound},
		{"update that expects nothing", Op{Verb: Update}, 4, ErrConflict},
		{"delete", Op{Verb: Delete, Expect: 3}, 3, nil},
		{"delete of another revision", Op{Verb: Delete, Expect: 5}, 4, ErrConflict},
		{"delete of nothing", Op{Verb: Delete, Expect: 3}, 0, ErrNotFound},
		{"the largest", Op{Verb: Create, Data: large[:MaxObjectBytes]}, 0, nil},
		{"too large", Op{Verb: Create, Data: large}, 0, ErrTooLarge},
	} {
		if got := Judge(&tc.op, tc.found); !errors.Is(got, tc.want) || (tc.want == nil) != (got == nil) {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestCheckOps(t *testing.T) {
	t.Parallel()
	key := Key{Resource: "pods", Namespace: "a", Name: "b"}
	good := Op{Key: key, Verb: Create}
	for name, tc := range map[string]struct {
		ops []Op
		ok  bool
	}{
		"none":            {nil, true},
		"one":             {[]Op{good}, true},
		"two keys":        {[]Op{good, {Key: Key{Resource: "pods", Name: "b"}, Verb: Delete, Expect: 1}}, true},
		"one key twice":   {[]Op{good, {Key: key, Verb: Delete, Expect: 1}}, false},
		"no verb":         {[]Op{{Key: key}}, false},
		"no name":         {[]Op{{Key: Key{Resource: "pods"}, Verb: Create}}, false},
		"create expects":  {[]Op{{Key: key, Verb: Create, Expect: 1}}, false},
		"delete has data": {[]Op{{Key: key, Verb: Delete, Expect: 1, Data: []byte("x")}}, false},
		"NUL":             {[]Op{{Key: Key{Resource: "pods", Name: "a\x00"}, Verb: Create}}, false},
	} {
		if err := CheckOps(tc.ops); (err == nil) != tc.ok {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}
