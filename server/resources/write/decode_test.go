package write

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	api "k8s.io/kubernetes/pkg/apis/core"
)

// TestPlain: what is decoded without looking for its kind first is what upstream decodes; everything that there is something to
// say about is left to upstream.
func TestPlain(t *testing.T) {
	t.Parallel()
	p := newPlayer(t, schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, 1)
	h := p.ours
	in := h.codecs.of(runtime.ContentTypeJSON)
	for body, plain := range map[string]bool{
		`{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}`:                                  true,
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"hostNetwork":true,"serviceAccount":"old"}}`: true,
		` {"apiVersion":"v1","kind":"Pod","spec":{"containers":null}} `:                                               true,
		`{}`:                                   true,
		`null`:                                 true,
		`{"kind":"Pod"}`:                       false,
		`{"apiVersion":"v1"}`:                  false,
		`{"apiVersion":"a/b/c"}`:               false,
		`{"Kind":"Node"}`:                      false,
		`{"apiVersion":"v1","kind":"Node"}`:    false,
		`{"apiVersion":"v2","kind":"Pod"}`:     false,
		`{"metadata":{"name":"a","name":"b"}}`: false,
		`{"metadata":{"Name":"a"}}`:            false,
		`{"unknown":1}`:                        false,
		`{"metadata":1}`:                       false,
		`{"metadata":{}`:                       false,
		`[]`:                                   false,
		``:                                     false,
	} {
		got := h.plain([]byte(body), &api.Pod{})
		if (got != nil) != plain {
			t.Errorf("%s: plain is %v", body, got != nil)
		}
		if got == nil {
			continue
		}
		want, kind, err := in.decode([]byte(body), h.scope.Kind, &api.Pod{}, true)
		if err != nil || *kind != h.scope.Kind {
			t.Errorf("%s: upstream says %v %v", body, kind, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-upstream +ours):\n%s", body, diff)
		}
	}
}
