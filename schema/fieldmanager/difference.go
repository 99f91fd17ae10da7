package fieldmanager

import (
	"reflect"

	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// A write mostly changes a small part of an object, and a field manager's dearest work is to walk the live and the new
// object side by side to find that part. The values here make the walk skip what reflect.DeepEqual calls equal: where
// both sides are such values of one Go type, iterating over the two together leaves equal fields out. That is right for
// comparing, which is all that ever happens to two of them (objects without validation are the live and the new
// object); merging would lose the fields, but merges an object with a configuration, which is no such value.

// objectValue is the value of an object or of a struct within one.
type objectValue struct {
	value.Value
	object any           // the object, at the root; nil within
	fields reflect.Value // the struct, when the walk may skip; else invalid
}

// AsMap implements value.Value.
func (v *objectValue) AsMap() value.Map { return v.wrap(v.Value.AsMap()) }

// AsMapUsing implements value.Value.
func (v *objectValue) AsMapUsing(a value.Allocator) value.Map { return v.wrap(v.Value.AsMapUsing(a)) }

func (v *objectValue) wrap(m value.Map) value.Map {
	if m == nil || !v.fields.IsValid() {
		return m
	}
	return &structMap{Map: m, fields: v.fields}
}

// structMap is the map of a struct's fields by JSON name.
type structMap struct {
	value.Map
	fields reflect.Value
}

// Zip implements value.Map.
func (m *structMap) Zip(other value.Map, order value.MapTraverseOrder, fn func(key string, l, r value.Value) bool) bool {
	return m.ZipUsing(value.HeapAllocator, other, order, fn)
}

// ZipUsing implements value.Map.
func (m *structMap) ZipUsing(a value.Allocator, other value.Map, order value.MapTraverseOrder, fn func(key string, l, r value.Value) bool) bool {
	o, ok := other.(*structMap)
	if !ok {
		return m.Map.ZipUsing(a, other, order, fn)
	}
	if o.fields.Type() != m.fields.Type() {
		return m.Map.ZipUsing(a, o.Map, order, fn)
	}
	entries := value.TypeReflectEntryOf(m.fields.Type()).Fields()
	return m.Map.ZipUsing(a, o.Map, order, func(key string, l, r value.Value) bool {
		if l == nil || r == nil {
			return fn(key, l, r)
		}
		lf, rf := entries[key].GetFrom(m.fields), entries[key].GetFrom(o.fields)
		if equal(lf, rf) {
			return true
		}
		return fn(key, within(l, lf), within(r, rf))
	})
}

// Equals implements value.Map.
func (m *structMap) Equals(other value.Map) bool { return m.EqualsUsing(value.HeapAllocator, other) }

// EqualsUsing implements value.Map.
func (m *structMap) EqualsUsing(a value.Allocator, other value.Map) bool {
	if o, ok := other.(*structMap); ok {
		other = o.Map
	}
	return m.Map.EqualsUsing(a, other)
}

// equal compares fields of one type that may be large. It may answer false for equal fields.
func equal(l, r reflect.Value) bool {
	switch l.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map, reflect.Pointer:
		// By address, so that nothing is copied.
		return l.CanAddr() && r.CanAddr() && reflect.DeepEqual(l.Addr().Interface(), r.Addr().Interface())
	}
	return false
}

// within gives the value of a struct, or of a list of structs, the fields that let the walk go on skipping.
func within(v value.Value, field reflect.Value) value.Value {
	if field.Kind() == reflect.Pointer {
		field = field.Elem()
	}
	switch field.Kind() {
	case reflect.Struct:
		if !value.TypeReflectEntryOf(field.Type()).CanConvertToUnstructured() {
			return &objectValue{Value: v, fields: field}
		}
	case reflect.Slice:
		if e := field.Type().Elem(); e.Kind() == reflect.Struct && !value.TypeReflectEntryOf(e).CanConvertToUnstructured() {
			return &listValue{Value: v, items: field}
		}
	}
	return v
}

// listValue is the value of a list of structs.
type listValue struct {
	value.Value
	items reflect.Value
}

// AsList implements value.Value.
func (v *listValue) AsList() value.List { return &structList{List: v.Value.AsList(), items: v.items} }

// AsListUsing implements value.Value.
func (v *listValue) AsListUsing(a value.Allocator) value.List {
	return &structList{List: v.Value.AsListUsing(a), items: v.items}
}

// structList is a list of structs.
type structList struct {
	value.List
	items reflect.Value
}

// At implements value.List.
func (l *structList) At(i int) value.Value { return within(l.List.At(i), l.items.Index(i)) }

// AtUsing implements value.List.
func (l *structList) AtUsing(a value.Allocator, i int) value.Value {
	return within(l.List.AtUsing(a, i), l.items.Index(i))
}

// Equals implements value.List.
func (l *structList) Equals(other value.List) bool { return l.EqualsUsing(value.HeapAllocator, other) }

// EqualsUsing implements value.List. Two lists made by reflection tell nil from empty within their items, a list of
// another sort does not: so the other one is unwrapped.
func (l *structList) EqualsUsing(a value.Allocator, other value.List) bool {
	if o, ok := other.(*structList); ok {
		other = o.List
	}
	return l.List.EqualsUsing(a, other)
}
