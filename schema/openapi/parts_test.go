package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// kindShare is a share of the v2 document with a kind of its own and one that is built in.
func kindShare(i int, description string) (*spec.Swagger, error) {
	doc, err := v2Share(fmt.Sprintf("/apis/example.com/v1/kind%ds", i), description)()
	if err != nil {
		return nil, err
	}
	for _, item := range doc.Paths.Paths {
		item.Get.Responses = &spec.Responses{ResponsesProps: spec.ResponsesProps{Default: &spec.Response{ResponseProps: spec.ResponseProps{Description: "fine"}}}}
	}
	doc.Definitions = spec.Definitions{
		fmt.Sprintf("com.example.v1.Kind%d", i):           *spec.StringProperty().WithDescription(description),
		"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": *spec.StringProperty(),
	}
	doc.Parameters = map[string]spec.Parameter{fmt.Sprintf("size-%d", i%2): {ParamProps: spec.ParamProps{Name: "size", In: "query"}, SimpleSchema: spec.SimpleSchema{Type: "string"}}}
	return doc, nil
}

// A document of parts says what upstream's merging of the same shares says, in both encodings; a change of a part builds
// that part, and its tag tells the documents apart.
func TestParts(t *testing.T) {
	t.Parallel()
	s, plain := newSmallService(t, Config{}), newSmallService(t, Config{})
	built := map[int]int{}
	part := func(i int, description string) *Part {
		return NewPart(func() (*spec.Swagger, error) {
			built[i]++
			return kindShare(i, description)
		})
	}
	parts := []*Part{part(0, "a"), part(1, "b"), NewPart(func() (*spec.Swagger, error) { return nil, errors.New("broken") }), part(2, "c")}
	set(t, s, "x", Source{Rank: 100, V2Parts: parts})
	for i, d := range []string{"a", "b", "c"} {
		set(t, plain, d, Source{Rank: 100, V2: func() (*spec.Swagger, error) {
			doc, err := kindShare(i, d)
			delete(doc.Definitions, "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
			return doc, err
		}})
	}
	document := func(s *Service) (doc map[string]any) {
		t.Helper()
		if err := json.Unmarshal(serve(s, "/openapi/v2").Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		return doc
	}
	if diff := cmp.Diff(document(plain), document(s)); diff != "" {
		t.Errorf("upstream's merging (-) and parts (+):\n%s", diff)
	}
	first := serve(s, "/openapi/v2").Header().Get("Etag")
	if w := serve(s, "/openapi/v2", "If-None-Match", first); w.Code != http.StatusNotModified {
		t.Errorf("the same again: %d", w.Code)
	}
	message := func(s *Service) map[string]*openapi_v2.NamedSchema {
		t.Helper()
		var doc openapi_v2.Document
		w := serve(s, "/openapi/v2", "Accept", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
		if w.Code != http.StatusOK {
			t.Fatal(w.Code)
		}
		if err := proto.Unmarshal(w.Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Info.Title != "Kubernetes" || w.Header().Get("Etag") == "" {
			t.Errorf("title %q, tag %q", doc.Info.Title, w.Header().Get("Etag"))
		}
		all := map[string]*openapi_v2.NamedSchema{}
		for _, d := range doc.Definitions.AdditionalProperties {
			all[d.Name] = d
		}
		for _, p := range doc.Paths.Path {
			all[p.Name] = &openapi_v2.NamedSchema{Name: p.Value.GetGet().GetDescription()}
		}
		for _, p := range doc.Parameters.AdditionalProperties {
			all["parameter "+p.Name] = &openapi_v2.NamedSchema{Name: p.Value.String()}
		}
		return all
	}
	if diff := cmp.Diff(message(plain), message(s), cmp.Comparer(func(a, b *openapi_v2.NamedSchema) bool { return proto.Equal(a, b) })); diff != "" {
		t.Errorf("upstream's merging (-) and parts (+), as protobuf:\n%s", diff)
	}
	parts[1] = part(1, "changed")
	set(t, s, "x", Source{Rank: 100, V2Parts: parts})
	if got := v2Get(t, s, "/apis/example.com/v1/kind1s"); got != "changed" {
		t.Errorf("after a change: %q", got)
	}
	if again := serve(s, "/openapi/v2").Header().Get("Etag"); again == first || again == "" {
		t.Errorf("tag %q after %q", again, first)
	}
	if diff := cmp.Diff(map[int]int{0: 1, 1: 2, 2: 1}, built); diff != "" {
		t.Errorf("parts were built (-want +got):\n%s", diff)
	}
	s.RemoveSource("x")
	if got := v2Get(t, s, "/apis/example.com/v1/kind1s"); got != "" {
		t.Errorf("after its end: %q", got)
	}
}

// A request that has no time for all parts gets those that are there, and leaves a document to the next that is whole.
func TestPartsInTime(t *testing.T) {
	t.Parallel()
	s := newSmallService(t, Config{})
	part := NewPart(func() (*spec.Swagger, error) { return kindShare(0, "a") })
	set(t, s, "x", Source{Rank: 100, V2Parts: []*Part{part}})
	late := time.Now().Add(-time.Second)
	for _, enc := range mediaV2() {
		b, err := s.v2Blob(late, enc)
		if err != nil || !b.partial || part.asJSON != nil {
			t.Fatalf("late: %+v, %v", b, err)
		}
		data, err := io.ReadAll(b.member.Plain())
		if err != nil || !bytes.Contains(data, []byte("/apis/batch/v1/jobs")) {
			t.Errorf("%d bytes without the built-in groups, %v", len(data), err)
		}
	}
	if got := v2Get(t, s, "/apis/example.com/v1/kind0s"); got != "a" {
		t.Errorf("in time: %q", got)
	}
	if b, err := s.v2Blob(late, mediaV2()[0]); err != nil || b.partial {
		t.Errorf("late, when it is there: %+v, %v", b, err)
	}
}
