package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Source is a part of the API that brings its own documents, such as the custom resources of a cluster or one
// aggregated API server.
type Source struct {
	// Rank orders sources that describe the same path: the lowest wins, then the first by name. The built-in groups
	// have rank 0 and win over every other source of that rank.
	Rank int
	// V2 answers this source's share of the v2 document, without anything of other sources; nil means none. The result
	// may be shared: it is not changed.
	V2 func() (*spec.Swagger, error)
	// V2Parts are shares of the v2 document that are many or large. They are behind all V2, whatever the rank.
	V2Parts []*Part
	// V3 are the v3 documents by path below /openapi/v3/, such as "apis/stable.example.com/v1".
	V3 map[string]Document
}

// Document is one v3 document of a source: exactly one of Build and Handler is set.
type Document struct {
	// Build answers the document. It is called on the first request for it or for the index, and once: to change the
	// document, set the source again.
	Build func() (*spec3.OpenAPI, error)
	// Hash, with Build, tells documents of one path apart without building them; empty: their content does.
	Hash string
	// Handler answers requests for the document in our place, and URL is the server-relative URL, with its hash, under
	// which the index lists it.
	Handler http.Handler
	URL     string
}

// source is Source with what was built from it.
type source struct {
	rank  int
	v2    func() (*spec.Swagger, error)
	parts []*Part
	v3    map[string]*document
	keep  func() (release func()) // holds what several documents are built from; nil: nothing to hold
}

// SetSource adds a source or replaces the one of that name. Names must not be empty.
func (s *Service) SetSource(name string, src Source) error {
	if name == builtinName {
		return fmt.Errorf("openapi source must have a name")
	}
	docs := make(map[string]*document, len(src.V3))
	for path, d := range src.V3 {
		switch {
		case d.Build != nil && d.Handler == nil:
			docs[path] = &document{render: renderV3(d.Build), proto: protoV3, hash: d.Hash}
		case d.Handler != nil && d.Build == nil && d.URL != "":
			docs[path] = &document{handler: d.Handler, url: d.URL}
		default:
			return fmt.Errorf("openapi source %s: document %s must have either a builder or a handler with its URL", name, path)
		}
	}
	s.put(name, &source{rank: src.Rank, v2: src.V2, parts: src.V2Parts, v3: docs})
	return nil
}

// RemoveSource forgets a source; one that does not exist is forgotten already.
func (s *Service) RemoveSource(name string) {
	if name != builtinName {
		s.put(name, nil)
	}
}

func (s *Service) put(name string, src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.sources[name]
	if src == nil {
		delete(s.sources, name)
	} else {
		s.sources[name] = src
	}
	if old.inV2() || src.inV2() {
		s.dropV2()
	}
}

// inV2 tells whether the source is in the v2 document. There may be no source.
func (s *source) inV2() bool { return s != nil && (s.v2 != nil || len(s.parts) > 0) }

// ordered lists the sources from the one that wins to the one that loses. s.mu is held.
func (s *Service) ordered() []*source {
	names := slices.Sorted(maps.Keys(s.sources))
	all := make([]*source, 0, len(names))
	for _, n := range names {
		all = append(all, s.sources[n])
	}
	slices.SortStableFunc(all, func(a, b *source) int { return a.rank - b.rank })
	return all
}

func renderV3(build func() (*spec3.OpenAPI, error)) func() ([]byte, error) {
	return func() ([]byte, error) {
		doc, err := build()
		if err != nil {
			return nil, err
		}
		return json.Marshal(doc)
	}
}
