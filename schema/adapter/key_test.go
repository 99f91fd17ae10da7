package adapter

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
)

func keyStore(prefix string) *Store {
	codec := object.NewCodec(object.Config{Resource: schema.GroupResource{Group: "apps", Resource: "deployments"}})
	return New(Backend{}, codec, prefix)
}

func TestKey(t *testing.T) {
	t.Parallel()
	const r = "deployments.apps"
	for _, prefix := range []string{"/deployments", "deployments", "/deployments/"} {
		s := keyStore(prefix)
		for key, want := range map[string]storage.Key{
			"/deployments/name":          {Resource: r, Name: "name"},
			"/deployments/ns/name":       {Resource: r, Namespace: "ns", Name: "name"},
			"/deployments//name":         {Resource: r, Name: "name"},
			"/deployments/a..b/c.d":      {Resource: r, Namespace: "a..b", Name: "c.d"},
			"/deployments/ns/system:a:b": {Resource: r, Namespace: "ns", Name: "system:a:b"},
		} {
			got, err := s.Key(key)
			if err != nil {
				t.Errorf("%s: %v", key, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", key, diff)
			}
		}
	}
}

func TestKeyRefuses(t *testing.T) {
	t.Parallel()
	s := keyStore("/deployments")
	for _, key := range []string{
		"", "/", ".", "..", "/deployments", "/deployments/", "/deployments/ns/", "/deployments.apps/a", "/other/a", "deployments/a",
		"/deployments/..", "/deployments/../secrets/a", "/deployments/ns/..", "/deployments/./a", "/deployments/ns/a/..",
		"/deployments/ns/a/b", "/deployments/ns/a/", "/deployments/ns//a",
	} {
		if got, err := s.Key(key); err == nil {
			t.Errorf("%q: %v, want an error", key, got)
		}
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	s := keyStore("/services/specs")
	tests := []struct {
		key       string
		recursive bool
		want      scope
	}{
		{"/services/specs", true, scope{prefix: "/services/specs/"}},
		{"/services/specs/ns", true, scope{prefix: "/services/specs/ns/", namespace: "ns"}},
		{"/services/specs/ns/", true, scope{prefix: "/services/specs/ns/", namespace: "ns"}},
		{"/services/specs/ns/a", true, scope{prefix: "/services/specs/ns/a/", namespace: "ns/a", nothing: true}},
		{"/services/specs/ns/a", false, scope{
			prefix: "/services/specs/ns/a", one: true, key: storage.Key{Resource: "deployments.apps", Namespace: "ns", Name: "a"},
		}},
	}
	for _, tc := range tests {
		got, err := s.scope(tc.key, tc.recursive)
		if err != nil {
			t.Errorf("%s: %v", tc.key, err)
		}
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(scope{})); diff != "" {
			t.Errorf("%s, recursive %v (-want +got):\n%s", tc.key, tc.recursive, diff)
		}
	}
}
