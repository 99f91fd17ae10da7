package fieldmanager

import (
	"cmp"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	smdschema "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// outline is a model laid over a Go type: what of it is owned as a whole, and how the rest is taken apart.
type outline struct {
	sort    sortOf
	fields  []member // of a struct, by name
	element *outline // of a map or list
	keys    []key    // of the items of a list that are told apart by fields; else by themselves
}

type sortOf int

const (
	ofLeaf sortOf = iota
	ofStruct
	ofMap
	ofList
)

type member struct {
	entry   *value.FieldCacheEntry
	element fieldpath.PathElement
	outline *outline
}

type key struct {
	name   string
	member member
	preset value.Value // when the field is left out; nil: then it is left out of the key
}

// outlines makes outlines, those of one pair once.
type outlines struct {
	schema *smdschema.Schema
	made   map[laid]*outline
}

// laid is a type with a model, and with what the field that has the type says about it.
type laid struct {
	visit
	relationship smdschema.ElementRelationship
}

// of returns the outline of a type that conforms to a model; false when it has values that are not of one sort.
func (o *outlines) of(t reflect.Type, ref smdschema.TypeRef) (*outline, bool) {
	var v laid
	if ref.ElementRelationship != nil {
		v.relationship = *ref.ElementRelationship
	}
	if ref.NamedType != nil {
		v.visit = visit{t, *ref.NamedType}
		if known := o.made[v]; known != nil {
			return known, true
		}
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	atom, ok := o.schema.Resolve(ref)
	if ok && atom.Scalar != nil && (t == reflect.TypeFor[intstr.IntOrString]() || t == reflect.TypeFor[resource.Quantity]()) {
		return &outline{}, true // of all that the model allows they are scalars
	}
	if !ok || !one(atom) {
		return nil, false
	}
	out := &outline{}
	if ref.NamedType != nil {
		o.made[v] = out
	}
	if atom.Scalar != nil {
		return out, true
	}
	if value.TypeReflectEntryOf(t).CanConvertToUnstructured() || t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return nil, false
	}
	if atom.Map != nil {
		return out, atom.Map.ElementRelationship == smdschema.Atomic || o.object(out, t, atom.Map)
	}
	return out, atom.List.ElementRelationship == smdschema.Atomic || o.list(out, t, atom.List)
}

func (o *outlines) object(out *outline, t reflect.Type, m *smdschema.Map) (ok bool) {
	if t.Kind() == reflect.Map {
		out.sort = ofMap
		out.element, ok = o.of(t.Elem(), m.ElementType)
		return ok && t.Key().Kind() == reflect.String && len(m.Fields) == 0
	}
	if t.Kind() != reflect.Struct {
		return false
	}
	out.sort = ofStruct
	zero := reflect.Zero(t)
	for name, entry := range value.TypeReflectEntryOf(t).Fields() {
		ref := m.ElementType
		if declared, ok := m.FindField(name); ok {
			ref = declared.Type
		}
		ft := entry.GetFrom(zero).Type()
		below, ok := o.of(ft, ref)
		if !ok || ft.Kind() == reflect.Pointer && below.sort == ofLeaf && !o.single(ref) && !entry.CanOmit(reflect.Zero(ft)) {
			return false // null could be of any sort
		}
		out.fields = append(out.fields, member{entry, fieldpath.PathElement{FieldName: &name}, below})
	}
	slices.SortFunc(out.fields, func(a, b member) int { return cmp.Compare(*a.element.FieldName, *b.element.FieldName) })
	return true
}

// single tells whether all values of a model are of one sort.
func (o *outlines) single(ref smdschema.TypeRef) bool {
	atom, ok := o.schema.Resolve(ref)
	return ok && one(atom)
}

func one(atom smdschema.Atom) bool {
	n := 0
	for _, is := range []bool{atom.Scalar != nil, atom.List != nil, atom.Map != nil} {
		if is {
			n++
		}
	}
	return n == 1
}

func (o *outlines) list(out *outline, t reflect.Type, l *smdschema.List) (ok bool) {
	if t.Kind() != reflect.Slice {
		return false
	}
	out.sort = ofList
	if out.element, ok = o.of(t.Elem(), l.ElementType); !ok {
		return false
	}
	if len(l.Keys) == 0 {
		return out.element.sort == ofLeaf && isPlain(t.Elem())
	}
	item, ok := o.schema.Resolve(l.ElementType)
	if !ok || item.Map == nil || t.Elem().Kind() != reflect.Struct {
		return false
	}
	entries, zero := value.TypeReflectEntryOf(t.Elem()).Fields(), reflect.Zero(t.Elem())
	for _, name := range l.Keys {
		entry := entries[name]
		if entry == nil {
			return false
		}
		ft := entry.GetFrom(zero).Type()
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
			if !entry.CanOmit(reflect.Zero(reflect.PointerTo(ft))) {
				return false // null as a key
			}
		}
		if !isPlain(ft) {
			return false
		}
		k := key{name: name, member: member{entry: entry}}
		if declared, ok := item.Map.FindField(name); ok && declared.Default != nil {
			k.preset = value.NewValueInterface(declared.Default)
		}
		out.keys = append(out.keys, k)
	}
	slices.SortStableFunc(out.keys, func(a, b key) int { return cmp.Compare(a.name, b.name) })
	return true
}

// isPlain tells whether values of a type are strings, numbers without fractions, or truth values, and look like it in JSON.
func isPlain(t reflect.Type) bool {
	if value.TypeReflectEntryOf(t).CanConvertToUnstructured() {
		return false
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return true
	}
	return false
}

// outlineOf returns the outline of a type that is trusted; nil when it has none.
func (m *models) outlineOf(t reflect.Type, model smdschema.TypeRef) *outline {
	if known, ok := m.outlines.Load(t); ok {
		return known.(*outline)
	}
	o := outlines{schema: m.schema, made: map[laid]*outline{}}
	out, ok := o.of(t, model)
	if !ok {
		out = nil
	}
	m.outlines.Store(t, out)
	return out
}
