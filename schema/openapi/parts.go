package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/rowlock-io/rowlock/schema/splice"
)

// Part is a share of the v2 document that is built once and kept, compressed, for as long as a source has it: when one of
// many parts changes, the document costs the building of that part.
type Part struct {
	build func() (*spec.Swagger, error)

	mu     sync.Mutex
	asJSON *share
	asPB   *share
}

// NewPart makes a part of what build answers when the document is asked for. What the built-in groups describe under the
// same name is theirs, so the part may bring the definitions that all kinds share. A part that cannot be built is left out.
func NewPart(build func() (*spec.Swagger, error)) *Part { return &Part{build: build} }

// share is what a part adds to each of the document's maps.
type share [kinds][]named

// The maps of a document that parts add to.
const (
	paths = iota
	definitions
	parameters
	kinds
)

type named struct {
	name  string
	piece splice.Piece
}

// names are those in the maps of a document.
type names [kinds]map[string]bool

func namesOf(doc *spec.Swagger) names {
	var n names
	for i := range n {
		n[i] = map[string]bool{}
	}
	if doc.Paths != nil {
		for name := range doc.Paths.Paths {
			n[paths][name] = true
		}
	}
	for name := range doc.Definitions {
		n[definitions][name] = true
	}
	for name := range doc.Parameters {
		n[parameters][name] = true
	}
	return n
}

// has tells whether the part is built, as built has it. One that is being built is not.
func (p *Part) has(built func(*Part) bool) bool {
	if !p.mu.TryLock() {
		return false
	}
	defer p.mu.Unlock()
	return built(p)
}

// json answers the part as members of JSON objects, without what has a name in the built-in groups.
func (p *Part) json(building *building, builtin names) (*share, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lockedJSON(building, builtin)
}

func (p *Part) lockedJSON(building *building, builtin names) (*share, error) {
	if p.asJSON != nil {
		return p.asJSON, nil
	}
	building.Lock()
	defer building.Unlock()
	doc, err := p.build()
	if err != nil {
		return nil, err
	}
	s := &share{}
	add := func(kind int, name string, value json.Marshaler) error {
		if builtin[kind][name] {
			return nil
		}
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		data, err := value.MarshalJSON()
		if err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
		s[kind] = append(s[kind], named{name, splice.Compress(append(append(key, ':'), data...))})
		return nil
	}
	if doc.Paths != nil {
		for _, name := range slices.Sorted(maps.Keys(doc.Paths.Paths)) {
			if err := add(paths, name, doc.Paths.Paths[name]); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Definitions)) {
		if err := add(definitions, name, doc.Definitions[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Parameters)) {
		if err := add(parameters, name, doc.Parameters[name]); err != nil {
			return nil, err
		}
	}
	p.asJSON = s
	building.done.Add(1)
	return s, nil
}

// proto answers the part as messages that can follow the document's: in protobuf this adds to its maps.
func (p *Part) proto(building *building, builtin names) (*share, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asPB != nil {
		return p.asPB, nil
	}
	src, err := p.lockedJSON(building, builtin)
	if err != nil {
		return nil, err
	}
	building.Lock()
	defer building.Unlock()
	doc, err := src.parse()
	if err != nil {
		return nil, err
	}
	s := &share{}
	add := func(kind int, name string, message *openapi_v2.Document) error {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
		s[kind] = append(s[kind], named{name, splice.Compress(data)})
		return err
	}
	for _, m := range doc.GetPaths().GetPath() {
		err := add(paths, m.GetName(), &openapi_v2.Document{Paths: &openapi_v2.Paths{Path: []*openapi_v2.NamedPathItem{m}}})
		if err != nil {
			return nil, err
		}
	}
	for _, m := range doc.GetDefinitions().GetAdditionalProperties() {
		err := add(definitions, m.GetName(), &openapi_v2.Document{
			Definitions: &openapi_v2.Definitions{AdditionalProperties: []*openapi_v2.NamedSchema{m}},
		})
		if err != nil {
			return nil, err
		}
	}
	for _, m := range doc.GetParameters().GetAdditionalProperties() {
		err := add(parameters, m.GetName(), &openapi_v2.Document{
			Parameters: &openapi_v2.ParameterDefinitions{AdditionalProperties: []*openapi_v2.NamedParameter{m}},
		})
		if err != nil {
			return nil, err
		}
	}
	p.asPB = s
	building.done.Add(1)
	return s, nil
}

// parse decodes a share as a document.
func (s *share) parse() (*openapi_v2.Document, error) {
	data := []byte(`{"swagger":"2.0","info":{"title":"part","version":"0"}`)
	for kind, key := range []string{paths: "paths", definitions: "definitions", parameters: "parameters"} {
		data = append(data, `,"`+key+`":{`...)
		for i, n := range s[kind] {
			if i > 0 {
				data = append(data, ',')
			}
			plain, err := n.piece.Bytes()
			if err != nil {
				return nil, err
			}
			data = append(data, plain...)
		}
		data = append(data, '}')
	}
	return openapi_v2.ParseDocument(append(data, '}'))
}
