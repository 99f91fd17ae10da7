package reference

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOpenAPIPaths(t *testing.T) {
	t.Parallel()
	paths, err := OpenAPIV3Paths()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"api/v1", "apis", "apis/apps", "apis/apps/v1", "version", "openid/v1/jwks"} {
		if !slices.Contains(paths, want) {
			t.Errorf("no document %s", want)
		}
	}
	if _, err := DiffOpenAPIV3("apis/none/v1", []byte(`{}`)); err == nil {
		t.Error("a document that does not exist was compared")
	}
}

func TestHashParts(t *testing.T) {
	t.Parallel()
	const doc = `{"info":{"title":"a"},"security":[1],"paths":{"/a":{"get":{"x":1,"y":2}},"/b":{}},` +
		`"components":{"schemas":{"A":{"type":"object"}},"securitySchemes":{}}}`
	want, err := hashParts([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		old, new string
		want     []string
	}{
		{"order of members", `"x":1,"y":2`, `"y":2,"x":1`, nil},
		{"value in a path", `"x":1`, `"x":3`, []string{"different: paths /a"}},
		{"path renamed", `"/b"`, `"/c"`, []string{"missing: paths /b", "in excess: paths /c"}},
		{"schema", `"object"`, `"string"`, []string{"different: components schemas A"}},
		{"list", `[1]`, `[1,2]`, []string{"different: security"}},
		{"head", `"title":"a"`, `"title":"b"`, []string{"different: info title"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := want.diff([]byte(strings.Replace(doc, tt.old, tt.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	for _, bad := range []string{``, `[]`, `{`, `{}{}`} {
		if _, err := want.diff([]byte(bad)); err == nil {
			t.Errorf("%q was compared", bad)
		}
	}
}

func TestDiffDiscovery(t *testing.T) {
	t.Parallel()
	var facts discoveryFacts
	if err := load(discoveryFile, &facts); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(facts.Legacy["/api/v1"])
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	for _, tt := range []struct {
		name     string
		old, new string
		want     []string
	}{
		{name: "equal"},
		{"null member", `"groupVersion":"v1"`, `"groupVersion":"v1","metadata":null`, nil},
		{"verbs", `"verbs":["create"]`, `"verbs":["get"]`, []string{`resources.bindings.verbs[0]: want "create", have "get"`}},
		{"renamed", `"name":"pods/exec"`, `"name":"pods/execute"`, []string{"resources.pods/exec: missing", "resources.pods/execute: in excess"}},
		{"short name", `"shortNames":["cs"],`, ``, []string{`resources.componentstatuses.shortNames: missing, want ["cs"]`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(doc, tt.old) {
				t.Fatalf("the document does not contain %s", tt.old)
			}
			got, err := DiffDiscovery("/api/v1", false, []byte(strings.Replace(doc, tt.old, tt.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("differences %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("difference %q, want %q", got[i], tt.want[i])
				}
			}
		})
	}
	if _, err := DiffDiscovery("/apis/none/v1", false, data); err == nil {
		t.Error("a document that does not exist was compared")
	}
}

// failures is a testing.TB that counts errors in place of failing.
type failures struct {
	testing.TB
	n int
}

func (f *failures) Errorf(string, ...any) { f.n++ }
func (f *failures) Helper()               {}

func TestCheckDiscovery(t *testing.T) {
	t.Parallel()
	var facts discoveryFacts
	if err := load(discoveryFile, &facts); err != nil {
		t.Fatal(err)
	}
	get := func(path, accept string) []byte {
		docs := facts.Legacy
		if accept == AcceptAggregated {
			docs = facts.Aggregated
		}
		data, err := json.Marshal(docs[path])
		if err != nil {
			t.Error(err)
		}
		return data
	}
	CheckDiscovery(t, get)
	broken := &failures{TB: t}
	CheckDiscovery(broken, func(path, accept string) []byte {
		if path == "/apis/apps/v1" {
			return []byte(`{}`)
		}
		return get(path, accept)
	})
	if broken.n == 0 {
		t.Error("a wrong answer was not reported")
	}
}
