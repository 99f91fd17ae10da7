// Package crds measures what hundreds of large CustomResourceDefinitions cost a server: `make bench-crds`. Its benchmark
// is no part of the tests.
package crds

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// groups is how many groups the definitions are in.
const groups = 40

// Definition is one generated definition.
type Definition struct {
	Group, Plural, Kind string
	JSON                []byte
}

// Generate makes n definitions like those of operators for clouds: 36 to 370 KB of schema each, with descriptions, nested
// objects and lists, a printer column, a status and a CEL rule. The same n always gives the same ones.
func Generate(n int) ([]Definition, error) {
	g := generator{random: rand.New(rand.NewPCG(7, 7))} //nolint:gosec // the same every time
	for range 2000 {
		word := make([]byte, 3+g.random.IntN(8))
		for i := range word {
			word[i] = byte('a' + g.random.IntN(26))
		}
		g.words = append(g.words, string(word))
	}
	all := make([]Definition, n)
	for i := range all {
		d := &all[i]
		d.Group, d.Plural, d.Kind = fmt.Sprintf("g%d.example.org", i%groups), fmt.Sprintf("thing%ds", i), fmt.Sprintf("Thing%d", i)
		size := []int{25_000, 60_000, 110_000, 180_000, 260_000}[g.random.IntN(5)]
		spec := g.large(size)
		spec["x-kubernetes-validations"] = []any{map[string]any{"rule": "has(self.deletionPolicy) ? self.deletionPolicy != 'x' : true"}}
		spec["properties"].(map[string]any)["deletionPolicy"] = map[string]any{"type": "string", "default": "Delete", "enum": []string{"Delete", "Orphan", "x"}}
		var err error
		d.JSON, err = json.Marshal(map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": d.Plural + "." + d.Group},
			"spec": map[string]any{
				"group": d.Group, "scope": "Cluster",
				"names": map[string]any{"kind": d.Kind, "listKind": d.Kind + "List", "plural": d.Plural, "singular": strings.ToLower(d.Kind), "categories": []string{"managed"}},
				"versions": []any{map[string]any{
					"name": "v1beta1", "served": true, "storage": true, "subresources": map[string]any{"status": map[string]any{}},
					"additionalPrinterColumns": []any{map[string]any{"name": "READY", "type": "string", "jsonPath": ".status.ready"}},
					"schema":                   map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "properties": map[string]any{"spec": spec, "status": g.large(size / 3)}}},
				}},
			},
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

type generator struct {
	random *rand.Rand
	words  []string
}

func (g *generator) word() string { return g.words[g.random.IntN(len(g.words))] }

func (g *generator) text(n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = g.word()
	}
	return strings.Join(words, " ")
}

func (g *generator) name() string {
	second := g.word()
	return g.word() + strings.ToUpper(second[:1]) + second[1:]
}

// large is an object whose schema has about that size.
func (g *generator) large(size int) map[string]any {
	properties := map[string]any{}
	for size > 0 {
		part := g.object(3)
		data, err := json.Marshal(part)
		if err != nil {
			panic(err) // maps and strings
		}
		size -= len(data)
		properties[g.name()] = part
	}
	return map[string]any{"type": "object", "properties": properties}
}

func (g *generator) object(depth int) map[string]any {
	properties := map[string]any{}
	for range 6 + g.random.IntN(7) {
		var p map[string]any
		switch r := g.random.Float64(); {
		case depth < 5 && r < 0.35:
			p = g.object(depth + 1)
		case depth < 5 && r < 0.5:
			p = map[string]any{"type": "array", "description": g.text(15), "items": g.object(depth + 1)}
		case r < 0.6:
			p = map[string]any{"type": "object", "description": g.text(12), "additionalProperties": map[string]any{"type": "string"}}
		default:
			p = map[string]any{"type": []string{"string", "integer", "boolean"}[g.random.IntN(3)], "description": g.text(18)}
		}
		properties[g.name()] = p
	}
	return map[string]any{"type": "object", "description": g.text(10), "properties": properties}
}
