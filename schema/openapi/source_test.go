package openapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const widgets = "apis/example.com/v1"

// v3Titled is a builder of a document that can be told from others by its title.
func v3Titled(title string) func() (*spec3.OpenAPI, error) {
	return func() (*spec3.OpenAPI, error) {
		return &spec3.OpenAPI{Version: "3.0.0", Info: &spec.Info{InfoProps: spec.InfoProps{Title: title, Version: "v1"}}}, nil
	}
}

// v2Share is a share of a v2 document with one path whose GET has that description.
func v2Share(path, description string) func() (*spec.Swagger, error) {
	return func() (*spec.Swagger, error) {
		get := &spec.Operation{OperationProps: spec.OperationProps{Description: description}}
		return &spec.Swagger{SwaggerProps: spec.SwaggerProps{
			Swagger: "2.0",
			Info:    &spec.Info{InfoProps: spec.InfoProps{Title: "share"}},
			Paths:   &spec.Paths{Paths: map[string]spec.PathItem{path: {PathItemProps: spec.PathItemProps{Get: get}}}},
		}}, nil
	}
}

func v3Title(t *testing.T, s *Service, name string) string {
	t.Helper()
	w := serve(s, "/openapi/v3/"+name)
	if w.Code != http.StatusOK {
		return http.StatusText(w.Code)
	}
	var doc spec3.OpenAPI
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Info.Title
}

// v2Get answers the description of GET on a path, and "" when the document does not have it.
func v2Get(t *testing.T, s *Service, path string) string {
	t.Helper()
	var doc spec.Swagger
	if err := json.Unmarshal(serve(s, "/openapi/v2").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if _, ok := doc.Paths.Paths["/apis/batch/v1/jobs"]; !ok || doc.Info.Title != "Kubernetes" {
		t.Fatalf("document %q with %d paths lost the built-in groups", doc.Info.Title, len(doc.Paths.Paths))
	}
	if item, ok := doc.Paths.Paths[path]; ok && item.Get != nil {
		return item.Get.Description
	}
	return ""
}

func set(t *testing.T, s *Service, name string, src Source) {
	t.Helper()
	if err := s.SetSource(name, src); err != nil {
		t.Fatal(err)
	}
}

func TestSourcesComeAndGo(t *testing.T) {
	t.Parallel()
	s := newSmallService(t, Config{})
	const path = "/apis/example.com/v1/widgets"
	check := func(step, wantV3, wantV2 string) {
		t.Helper()
		if got := v3Title(t, s, widgets); got != wantV3 {
			t.Errorf("%s: v3 document %q, want %q", step, got, wantV3)
		}
		if got := v2Get(t, s, path); got != wantV2 {
			t.Errorf("%s: v2 path %q, want %q", step, got, wantV2)
		}
		if _, ok := index(t, s)[widgets]; ok != (wantV3 != "Not Found") {
			t.Errorf("%s: index lists the document: %v", step, ok)
		}
	}
	source := func(rank int, name string) Source {
		return Source{Rank: rank, V2: v2Share(path, name), V3: map[string]Document{widgets: {Build: v3Titled(name)}}}
	}
	check("before", "Not Found", "")
	set(t, s, "b", source(10, "first"))
	check("added", "first", "first")
	set(t, s, "b", source(10, "second"))
	check("replaced", "second", "second")
	set(t, s, "a", source(20, "loser"))
	check("higher rank added", "second", "second")
	set(t, s, "a", source(5, "winner"))
	check("lower rank added", "winner", "winner")
	s.RemoveSource("a")
	check("winner removed", "second", "second")
	s.RemoveSource("b")
	s.RemoveSource("b")
	check("all removed", "Not Found", "")
}

func TestBuiltinWins(t *testing.T) {
	t.Parallel()
	s := newSmallService(t, Config{})
	set(t, s, "a", Source{V2: v2Share("/apis/batch/v1/jobs", "mine"), V3: map[string]Document{"version": {Build: v3Titled("mine")}}})
	if got := v3Title(t, s, "version"); got != "Kubernetes" {
		t.Errorf("version document is titled %q", got)
	}
	if got := v2Get(t, s, "/apis/batch/v1/jobs"); got == "mine" || got == "" {
		t.Errorf("GET of jobs is described %q", got)
	}
	s.RemoveSource("")
	if got := v3Title(t, s, "version"); got != "Kubernetes" {
		t.Errorf("after removing the source without name, the version document is titled %q", got)
	}
}

func TestSourceThatFails(t *testing.T) {
	t.Parallel()
	s := newSmallService(t, Config{})
	broken := errors.New("broken")
	failing := Source{
		Rank: 1,
		V2:   func() (*spec.Swagger, error) { return nil, broken },
		V3:   map[string]Document{widgets: {Build: func() (*spec3.OpenAPI, error) { return nil, broken }}},
	}
	set(t, s, "failing", failing)
	if w := serve(s, "/openapi/v2"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("v2 that never was built: code %d", w.Code)
	}
	if w := serve(s, "/openapi/v3/"+widgets); w.Code != http.StatusServiceUnavailable {
		t.Errorf("v3: code %d", w.Code)
	}
	if urls := index(t, s); urls[widgets] != "" || urls["apis/batch/v1"] == "" {
		t.Errorf("index must leave out what cannot be built, and only that: %d documents", len(urls))
	}
	s.RemoveSource("failing")
	if got := v2Get(t, s, "/apis/batch/v1/jobs"); got == "" {
		t.Error("v2 does not recover")
	}
	set(t, s, "failing", failing)
	if got := v2Get(t, s, "/apis/batch/v1/jobs"); got == "" {
		t.Error("the last good v2 document is not served")
	}
}

func TestDocumentServedElsewhere(t *testing.T) {
	t.Parallel()
	s := newSmallService(t, Config{})
	const where = "/openapi/v3/" + widgets + "?hash=ABC"
	set(t, s, "aggregated", Source{V3: map[string]Document{widgets: {URL: where, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.String()) },
	)}}})
	if got := index(t, s)[widgets]; got != where {
		t.Errorf("index says %q, want %q", got, where)
	}
	if got := serve(s, where).Body.String(); got != where {
		t.Errorf("handler was asked for %q, want %q", got, where)
	}
}

func TestSetSourceRefuses(t *testing.T) {
	t.Parallel()
	s := newSmallService(t, Config{})
	for _, tt := range []struct {
		name, source string
		doc          Document
	}{
		{"no name", "", Document{Build: v3Titled("x")}},
		{"nothing", "a", Document{}},
		{"both", "a", Document{Build: v3Titled("x"), Handler: http.NotFoundHandler(), URL: "/x"}},
		{"handler without URL", "a", Document{Handler: http.NotFoundHandler()}},
	} {
		if err := s.SetSource(tt.source, Source{V3: map[string]Document{widgets: tt.doc}}); err == nil {
			t.Errorf("%s: accepted", tt.name)
		}
	}
}
