package fieldmanager

import (
	"encoding/json"
	"maps"
	"math/rand"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// fill makes a random object in the hub version, without owners.
func (p *player) fill() runtime.Object {
	obj, err := p.e.scheme.New(p.e.kind.GroupKind().WithVersion(p.e.hub.Version))
	if err != nil {
		p.t.Fatal(err)
	}
	p.filler.Fill(obj)
	if accessor, err := meta.Accessor(obj); err == nil {
		accessor.SetManagedFields(nil)
		accessor.SetNamespace("space")
		accessor.SetName("name")
	}
	// Through the version of the endpoint and its defaults, as objects come from clients.
	out, err := p.e.scheme.ConvertToVersion(obj, p.e.kind.GroupVersion())
	if err != nil {
		p.t.Fatal(err)
	}
	p.e.scheme.Default(out)
	back, err := p.e.scheme.ConvertToVersion(out, p.e.hub)
	if err != nil {
		p.t.Fatal(err)
	}
	return back
}

// changed is the stored object with some of its fields replaced by random ones.
func (p *player) changed() runtime.Object {
	mixed := mix(p.rng, p.versioned(p.live), p.versioned(p.fill()), 0.3)
	return p.decode(mixed)
}

// decode reads a tree into the hub version. A mixture that no type can hold is answered by a new random object.
func (p *player) decode(tree map[string]any) runtime.Object {
	out, err := p.e.scheme.New(p.e.kind)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree, out); err != nil {
		return p.fill()
	}
	back, err := p.e.scheme.ConvertToVersion(out, p.e.hub)
	if err != nil {
		return p.fill()
	}
	return back
}

// configuration is a random part of the stored object with some fields replaced, as an applied configuration.
func (p *player) configuration() runtime.Object {
	mixed := mix(p.rng, p.versioned(p.live), p.versioned(p.fill()), 0.2)
	return applied(keep(p.rng, mixed, 0.5))
}

// less is an applied configuration with hardly anything in it, so that what its owner had is removed.
func (p *player) less() runtime.Object {
	return applied(keep(p.rng, p.versioned(p.live), 0.1))
}

// annotated is an applied configuration; the stored object is made to tell that kubectl applied part of it before.
func (p *player) annotated() runtime.Object {
	const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"
	config := p.versioned(p.live)
	applied(config)
	data, err := json.Marshal(keep(p.rng, config, 0.7))
	if err != nil {
		p.t.Fatal(err)
	}
	accessor, err := meta.Accessor(p.live)
	if err != nil {
		p.t.Fatal(err)
	}
	annotations := maps.Clone(accessor.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[lastApplied] = string(data)
	accessor.SetAnnotations(annotations)
	return applied(mix(p.rng, config, p.versioned(p.fill()), 0.1))
}

// mix takes a member from other with a chance, and below objects that both have.
func mix(rng *rand.Rand, tree, other map[string]any, chance float64) map[string]any {
	out := map[string]any{}
	all := maps.Clone(tree)
	maps.Copy(all, other)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		a, inTree := tree[key]
		b, inOther := other[key]
		objA, okA := a.(map[string]any)
		objB, okB := b.(map[string]any)
		switch {
		case key == "apiVersion" || key == "kind":
			out[key] = a
		case okA && okB:
			out[key] = mix(rng, objA, objB, chance)
		case rng.Float64() < chance:
			if inOther {
				out[key] = b
			}
		case inTree:
			out[key] = a
		}
	}
	return out
}

// keep keeps members with a chance, and always what identifies an object.
func keep(rng *rand.Rand, tree map[string]any, chance float64) map[string]any {
	out := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		switch inner, isObject := tree[key].(map[string]any); {
		case key == "apiVersion" || key == "kind" || key == "name" || key == "namespace":
			out[key] = tree[key]
		case key == "metadata" || (isObject && rng.Float64() < chance):
			out[key] = keep(rng, inner, chance)
		case rng.Float64() < chance:
			out[key] = tree[key]
		}
	}
	return out
}

type oddEntries struct {
	name     string
	entries  []metav1.ManagedFieldsEntry
	sentOnly bool // cannot be in the store: upstream panics on it
}

// oddOwners are managedFields that no field manager wrote, or not for this version.
func oddOwners(e endpoint) []oddEntries {
	entry := func(change func(*metav1.ManagedFieldsEntry)) metav1.ManagedFieldsEntry {
		out := metav1.ManagedFieldsEntry{
			Manager: "someone", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: e.kind.GroupVersion().String(),
			FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}`)},
		}
		change(&out)
		return out
	}
	raw := func(s string) func(*metav1.ManagedFieldsEntry) {
		return func(m *metav1.ManagedFieldsEntry) { m.FieldsV1 = &metav1.FieldsV1{Raw: []byte(s)} }
	}
	version := func(s string) func(*metav1.ManagedFieldsEntry) {
		return func(m *metav1.ManagedFieldsEntry) { m.APIVersion = s }
	}
	list := func(all ...metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry { return all }
	return []oddEntries{
		{name: "none", entries: list()},
		{name: "one empty", entries: list(metav1.ManagedFieldsEntry{})},
		{name: "plain", entries: list(entry(raw(`{"f:metadata":{"f:labels":{".":{}}}}`)))},
		{name: "unknown field", entries: list(entry(raw(`{"f:none":{"f:such":{}}}`)))},
		{name: "not JSON", entries: list(entry(raw(`{"f:metadata"`))), sentOnly: true},
		{name: "not an object", entries: list(entry(raw(`"f:metadata"`)))},
		{name: "wrong path", entries: list(entry(raw(`{"x:metadata":{}}`)))},
		{name: "no fields", entries: list(entry(func(m *metav1.ManagedFieldsEntry) { m.FieldsV1 = nil }))},
		{name: "unknown type", entries: list(entry(func(m *metav1.ManagedFieldsEntry) { m.FieldsType = "FieldsV9" }))},
		{name: "unknown operation", entries: list(entry(func(m *metav1.ManagedFieldsEntry) { m.Operation = "Steal" }))},
		{name: "unknown version", entries: list(entry(version("none.example.com/v9")))},
		{name: "malformed version", entries: list(entry(version("a/b/c")))},
		{name: "other group", entries: list(entry(version("apps/v1")), entry(version("v1")), entry(version("events.k8s.io/v1")))},
		{name: "other versions", entries: list(entry(version(e.kind.Group+"/v1beta1")), entry(version(e.kind.Group+"/v1")), entry(version(e.kind.Group+"/v2")))},
		{name: "twice", entries: list(entry(raw(`{"f:metadata":{"f:labels":{"f:a":{}}}}`)), entry(raw(`{"f:metadata":{"f:labels":{"f:b":{}}}}`)))},
		{name: "subresource", entries: list(entry(func(m *metav1.ManagedFieldsEntry) { m.Subresource = "status" }))},
	}
}
