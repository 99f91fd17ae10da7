package reference

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

const (
	discoveryFile = "discovery.json.gz"

	// AcceptAggregated asks /api and /apis for the aggregated discovery document.
	AcceptAggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	// AcceptLegacy asks for the older documents.
	AcceptLegacy = "application/json"
)

type discoveryFacts struct {
	Aggregated map[string]any `json:"aggregated"` // by path
	Legacy     map[string]any `json:"legacy"`
}

// CheckDiscovery gets every discovery document that kube-apiserver has, aggregated and older ones, and reports how the
// answers differ. get answers the body of a GET of a path with an Accept header, and fails the test otherwise.
func CheckDiscovery(t testing.TB, get func(path, accept string) []byte) {
	t.Helper()
	var facts discoveryFacts
	if err := load(discoveryFile, &facts); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []struct {
		docs   map[string]any
		accept string
	}{{facts.Aggregated, AcceptAggregated}, {facts.Legacy, AcceptLegacy}} {
		for _, path := range slices.Sorted(maps.Keys(kind.docs)) {
			diff, err := diffDiscovery(kind.docs[path], get(path, kind.accept))
			if err != nil {
				t.Errorf("GET %s (Accept: %s): %v", path, kind.accept, err)
			}
			for _, d := range diff {
				t.Errorf("GET %s (Accept: %s): %s", path, kind.accept, d)
			}
		}
	}
}

// DiffDiscovery compares the discovery document of a path such as "/apis/apps/v1" and lists the differences. What
// tells one server from another (addresses) and the order of resources do not count.
func DiffDiscovery(path string, aggregated bool, doc []byte) ([]string, error) {
	var facts discoveryFacts
	if err := load(discoveryFile, &facts); err != nil {
		return nil, err
	}
	docs := facts.Legacy
	if aggregated {
		docs = facts.Aggregated
	}
	want, ok := docs[path]
	if !ok {
		return nil, fmt.Errorf("kube-apiserver has no discovery document %s", path)
	}
	return diffDiscovery(want, doc)
}

func diffDiscovery(want any, doc []byte) ([]string, error) {
	have, err := parse(doc)
	if err != nil {
		return nil, err
	}
	var d differ
	d.compare("", normalize(want), normalize(have))
	return d.found, nil
}

// normalize drops nulls and server addresses and turns lists of resources into objects by name.
func normalize(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, member := range v {
			if member == nil || key == "serverAddress" {
				continue
			}
			if list, ok := member.([]any); ok && (key == "resources" || key == "subresources") {
				out[key] = byName(list)
				continue
			}
			out[key] = normalize(member)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, member := range v {
			out[i] = normalize(member)
		}
		return out
	}
	return v
}

func byName(list []any) any {
	out := make(map[string]any, len(list))
	for i, item := range list {
		name := fmt.Sprintf("#%d", i)
		if m, ok := item.(map[string]any); ok {
			for _, key := range []string{"name", "resource", "subresource"} {
				if s, ok := m[key].(string); ok {
					name = s
					break
				}
			}
		}
		if _, twice := out[name]; twice {
			name += fmt.Sprintf("#%d", i)
		}
		out[name] = normalize(item)
	}
	return out
}

// differ collects where two documents differ.
type differ struct{ found []string }

func (d *differ) report(at, format string, args ...any) {
	d.found = append(d.found, strings.TrimPrefix(at, ".")+": "+fmt.Sprintf(format, args...))
}

func (d *differ) compare(at string, want, have any) {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			d.report(at, "want an object, have %s", brief(have))
			return
		}
		for _, key := range slices.Sorted(maps.Keys(w)) {
			if member, ok := h[key]; ok {
				d.compare(at+"."+key, w[key], member)
			} else {
				d.report(at+"."+key, "missing, want %s", brief(w[key]))
			}
		}
		for _, key := range slices.Sorted(maps.Keys(h)) {
			if _, ok := w[key]; !ok {
				d.report(at+"."+key, "in excess: %s", brief(h[key]))
			}
		}
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			d.report(at, "want %s, have %s", brief(want), brief(have))
			return
		}
		for i := range w {
			d.compare(fmt.Sprintf("%s[%d]", at, i), w[i], h[i])
		}
	default:
		if fmt.Sprint(want) != fmt.Sprint(have) {
			d.report(at, "want %s, have %s", brief(want), brief(have))
		}
	}
}

func brief(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(data) > 200 {
		return string(data[:200]) + "…"
	}
	return string(data)
}
