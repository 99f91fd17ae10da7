package reference

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

const openAPIFile = "openapi.json.gz"

// parts are the hashes of the parts of a document: a part is a path, a schema, a parameter or the rest of the head.
type parts map[string]string

type openAPIFacts struct {
	V2 parts            `json:"v2"`
	V3 map[string]parts `json:"v3"` // by path below /openapi/v3/
}

// OpenAPIV3Paths lists the paths below /openapi/v3/ that have a document, sorted.
func OpenAPIV3Paths() ([]string, error) {
	var facts openAPIFacts
	if err := load(openAPIFile, &facts); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(facts.V3)), nil
}

// DiffOpenAPIV2 compares a v2 document in JSON and names the parts that are missing, in excess or different.
func DiffOpenAPIV2(doc []byte) ([]string, error) {
	var facts openAPIFacts
	if err := load(openAPIFile, &facts); err != nil {
		return nil, err
	}
	return facts.V2.diff(doc)
}

// DiffOpenAPIV3 compares the v3 document of a path, like DiffOpenAPIV2.
func DiffOpenAPIV3(path string, doc []byte) ([]string, error) {
	var facts openAPIFacts
	if err := load(openAPIFile, &facts); err != nil {
		return nil, err
	}
	want, ok := facts.V3[path]
	if !ok {
		return nil, fmt.Errorf("kube-apiserver has no OpenAPI v3 document %q", path)
	}
	return want.diff(doc)
}

func (want parts) diff(doc []byte) ([]string, error) {
	have, err := hashParts(doc)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch h, ok := have[name]; {
		case !ok:
			out = append(out, "missing: "+name)
		case h != want[name]:
			out = append(out, "different: "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[name]; !ok {
			out = append(out, "in excess: "+name)
		}
	}
	return out, nil
}

// hashParts takes a document apart. The order of object members does not matter, that of lists does.
func hashParts(doc []byte) (parts, error) {
	v, err := parse(doc)
	if err != nil {
		return nil, err
	}
	root, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("document is not an object")
	}
	out := parts{}
	var walk func(prefix string, m map[string]any, depth int) error
	walk = func(prefix string, m map[string]any, depth int) error {
		for key, member := range m {
			name := prefix + key
			inner, isObject := member.(map[string]any)
			if isObject && depth > 0 {
				deeper := 0
				if key == "components" {
					deeper = 1
				}
				if err := walk(name+" ", inner, deeper); err != nil {
					return err
				}
				continue
			}
			data, err := json.Marshal(member) // sorts members
			if err != nil {
				return fmt.Errorf("encode %s: %w", name, err)
			}
			sum := sha256.Sum256(data)
			out[name] = hex.EncodeToString(sum[:8])
		}
		return nil
	}
	return out, walk("", root, 1)
}
