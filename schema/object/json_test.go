package object

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// typed is an object in the order of Go fields, the way built-in kinds are encoded.
type typed struct {
	Kind       string         `json:"kind,omitempty"`
	APIVersion string         `json:"apiVersion,omitempty"`
	Metadata   typedMeta      `json:"metadata"`
	Data       map[string]any `json:"data,omitempty"`
}

type typedMeta struct {
	Name            string            `json:"name,omitempty"`
	GenerateName    string            `json:"generateName,omitempty"`
	Namespace       string            `json:"namespace,omitempty"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Generation      int               `json:"generation,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	Finalizers      []string          `json:"finalizers,omitempty"`
}

const hostile = `","uid":"x","resourceVersion":"9",}{"metadata":{"labels":{"a":"b"}}\"`

func TestJSONTyped(t *testing.T) {
	t.Parallel()
	bad := map[string]string{hostile: hostile, `"uid":"`: `"resourceVersion":"`, `\`: `\\`, "\u2028<&>": "é\x00"}
	metas := map[string]typedMeta{
		"empty":            {},
		"name":             {Name: "a"},
		"hostile name":     {Name: hostile},
		"generateName":     {GenerateName: "a-"},
		"uid last":         {Name: "a", Namespace: "b", UID: "u"},
		"hostile uid":      {Name: "a", UID: hostile},
		"no uid":           {Name: "a", Namespace: "b", Generation: 3},
		"only labels":      {Labels: bad},
		"only annotations": {Annotations: bad},
		"everything":       {Name: "a", GenerateName: hostile, Namespace: "b", UID: "u", Generation: 1, Labels: bad, Annotations: bad, Finalizers: []string{hostile}},
	}
	for name, m := range metas {
		t.Run(name, func(t *testing.T) {
			o := typed{Kind: "K", APIVersion: "g/v1", Metadata: m, Data: map[string]any{
				"metadata": map[string]any{"uid": "no", "resourceVersion": "no"}, "uid": hostile,
			}}
			data := marshal(t, o)
			o.Metadata.ResourceVersion = "42"
			if diff := cmp.Diff(string(marshal(t, o)), splice(t, data)); diff != "" {
				t.Errorf("-upstream +ours:\n%s", diff)
			}
			got, err := labelsOf(data)
			if err != nil {
				t.Fatal(err)
			}
			var back typed // what JSON cannot keep is lost on both ways
			if err := json.Unmarshal(data, &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(back.Metadata.Labels, got.set()); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}

// TestJSONSorted is about custom resources: members are sorted and metadata may be anywhere.
func TestJSONSorted(t *testing.T) {
	t.Parallel()
	for i, meta := range []map[string]any{
		{},
		{"name": "a"},
		{"uid": "u"},
		{"selfLink": hostile},
		{"resourceVersio": "x", "resourceVersionX": "y"},
		{"annotations": map[string]any{"resourceVersion": hostile, "uid": hostile}, "name": "a", "uid": "u"},
		{"labels": map[string]any{"zz": hostile, hostile: "x"}, "name": "a", "namespace": "b"},
		{"managedFields": []any{map[string]any{"fieldsV1": map[string]any{"f:uid": map[string]any{}, "resourceVersion": "1"}}}, "uid": "u"},
	} {
		for _, more := range []map[string]any{
			{"apiVersion": "g/v1", "kind": "K"},
			{"apiVersion": "g/v1", "kind": "K", "spec": hostile, "status": map[string]any{"metadata": map[string]any{"uid": 1}}},
			{"a": map[string]any{"metadata": map[string]any{"uid": "x"}}, "apiVersion": "g/v1", "kind": "K", "z": []any{"]", "}", 1.5, nil, true}},
			{"A": hostile, "apiVersion": "g/v1", "data": []any{}, "kind": "K", "metadata2": map[string]any{"name": "x"}},
		} {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				o := map[string]any{"metadata": meta}
				for k, v := range more {
					o[k] = v
				}
				data := marshal(t, o)
				want := map[string]any{"resourceVersion": "42"}
				for k, v := range meta {
					want[k] = v
				}
				o["metadata"] = want
				if diff := cmp.Diff(string(marshal(t, o)), splice(t, data)); diff != "" {
					t.Errorf("-upstream +ours:\n%s", diff)
				}
			})
		}
	}
}

func TestJSONRefuses(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		``, `null`, `[]`, `{}`, `{"kind":"K"}`, `{"kind":"K","metadata":1}`, `{"kind":"K","metadata":{"name":"a}}`,
		`{"kind":"K","metadata":{"resourceVersion":"1"}}`, `{"kind":"K","metadata":{"name"}}`, `{"kind":"K","metadata":{"name":"a",`,
		`{"kind":"K","spec":{"metadata":{}}}`, `{"kind":"K","metadata":`, `{"kind":"K" "metadata":{}}`,
	} {
		if off, err := revisionOffset([]byte(data)); err == nil {
			t.Errorf("%s: offset %d, want an error", data, off)
		}
	}
}

// FuzzJSON takes any bytes: the search never panics, and where the bytes are an object, splicing adds the revision and
// changes nothing else.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"kind":"K","metadata":{"name":"a","uid":"b"}}`, `{"a":1,"metadata":{"z":"a"}}`, ` { "metadata" : { } } `,
		`{"metadata":{"labels":{"a":"\u0041\\"}}}`, `{"metadata":{"res\u006furceVersion":"1"}}`, `{"kind":{},"metadata":{"uid":[{"}":"{"}]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		off, err := revisionOffset(data)
		_, labelErr := labelsOf(data)
		var before map[string]any
		if json.Unmarshal(data, &before) != nil || repeats(data) {
			return
		}
		meta, ok := before["metadata"].(map[string]any)
		if !ok || err != nil {
			if _, has := meta["resourceVersion"]; ok && !has {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		if labels, ok := meta["labels"].(map[string]any); ok && labelErr != nil {
			for _, v := range labels {
				if _, text := v.(string); !text {
					return
				}
			}
			t.Fatalf("labels refused: %v", labelErr)
		}
		var after map[string]any
		out := AppendJSON(nil, data, off, 7)
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		meta["resourceVersion"] = "7"
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}

// repeats tells whether some object has a name twice, or one that only an unescaping reader sees to be metadata:
// upstream's encoder writes neither.
func repeats(data []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(data))
	var walk func() bool
	walk = func() bool {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		switch tok {
		case json.Delim('{'):
			seen := map[any]bool{}
			for dec.More() {
				key, err := dec.Token()
				if err != nil || seen[key] {
					return true
				}
				seen[key] = true
				if walk() {
					return true
				}
			}
			_, _ = dec.Token()
		case json.Delim('['):
			for dec.More() {
				if walk() {
					return true
				}
			}
			_, _ = dec.Token()
		}
		return false
	}
	return walk() || bytes.Contains(data, []byte(`\u`))
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func splice(t *testing.T, data []byte) string {
	t.Helper()
	off, err := revisionOffset(data)
	if err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return string(AppendJSON(nil, data, off, 42))
}
