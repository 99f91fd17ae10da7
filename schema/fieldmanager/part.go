package fieldmanager

import (
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	smdschema "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// part is what a configuration names of an object, of its fields and those right below them. Merging turns an object into a
// tree of maps and back. What a configuration does not name cannot change by it, so that part of it suffices.
type part struct {
	whole  runtime.Object
	object runtime.Object // of the same type, with nothing but the part
	fields []fieldOf
}

// fieldOf is a field of the part, or some of the fields below it.
type fieldOf struct {
	at    int
	below []int // nil: all of it
}

// part returns the part of an object that a configuration names; nil when it has to be looked at as a whole.
func (c *converter) part(obj, config runtime.Object) *part {
	tree, ok := config.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	m, err := c.models()
	if err != nil {
		return nil
	}
	gvk := obj.GetObjectKind().GroupVersionKind()
	model, ok := m.kinds[gvk]
	if !ok || gvk.GroupKind() != c.kind || !ownersAreObjects(obj) || !m.trusts(reflect.TypeOf(obj), model) {
		return nil
	}
	from := reflect.ValueOf(obj).Elem()
	atom := granular(m.schema, model)
	if from.Kind() != reflect.Struct || atom == nil || len(tree.Object) == 0 {
		return nil
	}
	to := reflect.New(from.Type())
	p := &part{whole: obj}
	for i := range from.NumField() {
		if from.Type().Field(i).Anonymous && from.Type().Field(i).Name == "TypeMeta" {
			p.fields = append(p.fields, fieldOf{at: i})
		}
	}
	for name, v := range tree.Object {
		if name == "apiVersion" || name == "kind" {
			continue
		}
		at, ok := directField(from.Type(), name)
		if !ok {
			return nil
		}
		f := fieldOf{at: at}
		if declared, ok := atom.FindField(name); ok {
			f.below = below(m.schema, declared.Type, from.Type().Field(at).Type, v)
		}
		p.fields = append(p.fields, f)
	}
	p.copy(to.Elem(), from)
	p.object, _ = to.Interface().(runtime.Object)
	return p
}

// granular returns the map that a type is, if its fields are owned one by one.
func granular(schema *smdschema.Schema, ref smdschema.TypeRef) *smdschema.Map {
	atom, ok := schema.Resolve(ref)
	if !ok || atom.Map == nil || atom.Scalar != nil || atom.List != nil || atom.Map.ElementRelationship == smdschema.Atomic {
		return nil
	}
	return atom.Map
}

// below returns the fields of a struct that a value of it names, nil for all.
func below(schema *smdschema.Schema, ref smdschema.TypeRef, t reflect.Type, v any) []int {
	tree, ok := v.(map[string]any)
	if !ok || len(tree) == 0 || t.Kind() != reflect.Struct || value.TypeReflectEntryOf(t).CanConvertToUnstructured() || granular(schema, ref) == nil {
		return nil
	}
	out := make([]int, 0, len(tree))
	for name := range tree {
		at, ok := directField(t, name)
		if !ok {
			return nil
		}
		out = append(out, at)
	}
	return out
}

// directField finds a field of a struct by its name in JSON. Those of a struct without a name are not found.
func directField(t reflect.Type, name string) (int, bool) {
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("json")
		if len(tag) > len(name) && tag[:len(name)] == name && tag[len(name)] == ',' || tag == name {
			return i, true
		}
	}
	return 0, false
}

// copy sets the fields of the part in one object to those of another.
func (p *part) copy(to, from reflect.Value) {
	for _, f := range p.fields {
		if f.below == nil {
			to.Field(f.at).Set(from.Field(f.at))
			continue
		}
		for _, i := range f.below {
			to.Field(f.at).Field(i).Set(from.Field(f.at).Field(i))
		}
	}
}

// complete adds a copy of all that is not in the part to an object that has the part.
func (p *part) complete(obj runtime.Object) {
	from := reflect.ValueOf(p.whole).Elem()
	rest := reflect.New(from.Type())
	rest.Elem().Set(from)
	p.copy(rest.Elem(), reflect.Zero(from.Type())) // so that it is not copied
	if others, ok := rest.Interface().(runtime.Object); ok {
		all := reflect.ValueOf(others.DeepCopyObject()).Elem()
		to := reflect.ValueOf(obj).Elem()
		p.copy(all, to)
		to.Set(all)
	}
}

// narrowed applies a configuration to the part of the live object that it names. It answers false when the whole object is
// needed: something may have to be removed, or an owner has another version, or an error is to be told.
func (m *Manager) narrowed(versioned, config runtime.Object, configTyped *typed.TypedValue, before owners, self identity, force bool) (
	p *part, result *typed.TypedValue, after owners, err error, ok bool,
) {
	c, isOurs := m.types.(*converter)
	if !isOurs {
		return nil, nil, nil, nil, false
	}
	for _, e := range before {
		if e.version != m.version {
			return nil, nil, nil, nil, false
		}
	}
	own, err := configTyped.ToFieldSet()
	if err != nil {
		return nil, nil, nil, nil, false
	}
	if i := before.index(self); i >= 0 && !before[i].fields.set.Difference(own).Empty() || m.filters(own) {
		return nil, nil, nil, nil, false
	}
	if p = c.part(versioned, config); p == nil {
		return nil, nil, nil, nil, false
	}
	live, err := m.types.ObjectToTyped(p.object, typed.AllowDuplicates)
	if err != nil {
		return nil, nil, nil, nil, false
	}
	w := &write{Manager: m, live: live}
	result, after, err = w.apply(configTyped, before, self, force)
	if _, conflict := err.(conflicts); err != nil && !conflict { //nolint:errorlint // nothing wraps them
		return nil, nil, nil, nil, false
	}
	return p, result, after, err, true
}

// filters tells whether the storage resets any of the fields.
func (m *Manager) filters(own *fieldpath.Set) bool {
	filter := m.reset[m.version]
	return filter != nil && !filter.Filter(own).Equals(own)
}
