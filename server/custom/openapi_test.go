package custom_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// OpenAPI v2 with custom resources is what upstream's controller publishes: its merging of the document without them and of
// what its builder makes of each.
func TestOpenAPIV2IsUpstreams(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	wire := servertest.NewWire()
	defer wire.Close()
	get := func() *spec.Swagger {
		t.Helper()
		r := wire.Send(t, c.server.URL, servertest.Request{Method: http.MethodGet, Path: "/openapi/v2", Token: servertest.AdminToken})
		doc := &spec.Swagger{}
		if err := doc.UnmarshalJSON([]byte(r.Body)); err != nil || r.Status != http.StatusOK {
			t.Fatalf("%d, %v", r.Status, err)
		}
		return doc
	}
	before := get()
	c.define(widgets)
	crd, err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), large(1, 40_000), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("publication", func(context.Context) (bool, error) {
		found := get().Definitions
		_, small := found["com.example.v1.Widget"]
		_, big := found["com.example.large.v1."+crd.Spec.Names.Kind]
		return small && big, nil
	})
	var parts []*spec.Swagger
	for _, name := range []string{"widgets.example.com", crd.Name} {
		crd, err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range crd.Spec.Versions {
			if !v.Served {
				continue
			}
			part, err := builder.BuildOpenAPIV2(crd, v.Name, builder.Options{V2: true, IncludeSelectableFields: true})
			if err != nil {
				t.Fatal(err)
			}
			part.Definitions = handler.PruneDefaults(part.Definitions)
			parts = append(parts, part)
		}
	}
	want, err := builder.MergeSpecs(before, parts...)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := decoded(t, get()), decoded(t, want); !cmp.Equal(got, want) {
		t.Errorf("upstream's (-) and ours (+):\n%s", cmp.Diff(want, got))
	}
}

func decoded(t *testing.T, doc *spec.Swagger) map[string]any {
	t.Helper()
	data, err := doc.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all
}
