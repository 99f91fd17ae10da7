package openapi

import (
	"fmt"
	"net/http"
	"time"

	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// ServeV2 answers GET /openapi/v2.
func (s *Service) ServeV2(w http.ResponseWriter, r *http.Request) {
	defer s.settle(s.building.done.Load())
	enc, ok := negotiate(r, mediaV2())
	w.Header().Add("Vary", "Accept")
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	b, err := s.v2Blob(timeToBuild(r), enc)
	if err != nil {
		s.log.Error("Could not build the OpenAPI v2 document", "error", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	b.serve(w, r, enc.answer)
}

// v2Blob answers the current v2 document or, when that cannot be built, the last one that could.
func (s *Service) v2Blob(until time.Time, enc encoding) (*blob, error) {
	current, stale := s.v2Document()
	b, err := current.encoded(until, enc, &s.building)
	if err != nil && stale != nil {
		s.log.Warn("Could not build the OpenAPI v2 document, served the last one", "error", err)
		return stale.encoded(until, enc, &s.building)
	}
	if err == nil && !b.partial && stale != nil {
		s.mu.Lock()
		if s.v2 == current {
			s.stale = nil
		}
		s.mu.Unlock()
	}
	return b, err
}

func (s *Service) v2Document() (current, stale *document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.v2 == nil {
		sources := s.ordered()
		var parts []*Part
		for _, src := range sources {
			parts = append(parts, src.parts...)
		}
		if len(parts) == 0 {
			s.head = nil
			s.v2 = &document{proto: protoV2, render: func() ([]byte, error) { return renderV2(sources) }}
		} else {
			if next := newHead(sources); !next.same(s.head) {
				s.head = next
			}
			s.v2 = &document{spliced: &spliced{head: s.head, parts: parts, log: s.log}}
		}
	}
	return s.v2, s.stale
}

// dropV2 makes the next request build the v2 document anew. s.mu is held.
func (s *Service) dropV2() {
	if s.v2 != nil && s.v2.asJSON.Load() != nil {
		s.stale = s.v2
	}
	s.v2 = nil
}

// renderV2 merges what the sources bring.
func renderV2(sources []*source) ([]byte, error) {
	doc, _, err := mergeV2(sources)
	if err != nil {
		return nil, err
	}
	return doc.MarshalJSON()
}

// mergeV2 merges what the sources bring as wholes. The first gives the document its head; first are the names in it.
func mergeV2(sources []*source) (merged *spec.Swagger, first names, err error) {
	alone := true
	for _, src := range sources {
		if src.v2 == nil {
			continue
		}
		part, err := src.v2()
		if err != nil {
			return nil, first, err
		}
		if part == nil {
			continue
		}
		if merged == nil {
			merged, first = part, namesOf(part)
			continue
		}
		if alone {
			// The first part may be shared with its source: merge into a copy.
			head := *merged
			head.Paths, head.Definitions, head.Parameters = nil, nil, nil
			if err := aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(&head, merged); err != nil {
				return nil, first, fmt.Errorf("merge documents: %w", err)
			}
			merged, alone = &head, false
		}
		if err := aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(merged, part); err != nil {
			return nil, first, fmt.Errorf("merge documents: %w", err)
		}
	}
	if merged == nil {
		return nil, first, fmt.Errorf("no source has an OpenAPI v2 document")
	}
	return merged, first, nil
}
