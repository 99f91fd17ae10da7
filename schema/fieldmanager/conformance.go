package fieldmanager

import (
	"reflect"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	smdschema "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// conformance compares a Go type with a model, once, to find out whether a value of that type can fail validation
// against the model. Reading the types costs no more than validating a few objects.
//
// Nearly all types conform: the models are generated from them. The exceptions matter, because upstream answers an
// invalid object with an object without managedFields: lists of maps whose key may be absent, such as the secrets of a
// ServiceAccount without a name. Whatever is not understood here counts as an exception.
type conformance struct {
	schema *smdschema.Schema
	seen   map[visit]bool
}

// visit is a pair that is compared already or being compared.
type visit struct {
	goType reflect.Type
	model  string
}

func (c *conformance) conforms(t reflect.Type, ref smdschema.TypeRef) bool {
	if ref.NamedType != nil {
		v := visit{t, *ref.NamedType}
		if c.seen[v] {
			return true // a failure ends the comparison, so this pair has not failed
		}
		c.seen[v] = true
	}
	atom, ok := c.schema.Resolve(ref)
	if !ok {
		return false
	}
	if atom.Scalar != nil && atom.List != nil && atom.Map != nil {
		return c.anything(ref)
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem() // a nil pointer is null, which is valid everywhere
	}
	if value.TypeReflectEntryOf(t).CanConvertToUnstructured() {
		return c.marshals(t, atom)
	}
	switch {
	case atom.Map != nil:
		return c.object(t, atom.Map)
	case atom.List != nil:
		return c.list(t, atom.List)
	case atom.Scalar != nil:
		return scalar(t, *atom.Scalar)
	}
	return false
}

// anything tells whether a type puts no condition on its values, nor on what is inside of them.
func (c *conformance) anything(ref smdschema.TypeRef) bool {
	if ref.NamedType != nil {
		v := visit{nil, *ref.NamedType}
		if c.seen[v] {
			return true
		}
		c.seen[v] = true
	}
	atom, ok := c.schema.Resolve(ref)
	return ok && atom.Scalar != nil && *atom.Scalar == smdschema.Untyped &&
		atom.List != nil && atom.List.ElementRelationship != smdschema.Associative && c.anything(atom.List.ElementType) &&
		atom.Map != nil && len(atom.Map.Fields) == 0 && c.anything(atom.Map.ElementType)
}

// marshals knows the types that write themselves and what they write.
func (c *conformance) marshals(t reflect.Type, atom smdschema.Atom) bool {
	switch t {
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime](), reflect.TypeFor[metav1.Duration]():
		return atom.Scalar != nil && (*atom.Scalar == smdschema.String || *atom.Scalar == smdschema.Untyped)
	case reflect.TypeFor[intstr.IntOrString](), reflect.TypeFor[resource.Quantity]():
		return atom.Scalar != nil && *atom.Scalar == smdschema.Untyped
	case reflect.TypeFor[metav1.FieldsV1]():
		// An object if it was written by a field manager: ownersAreObjects looks at each.
		return atom.Map != nil && len(atom.Map.Fields) == 0 && c.anything(atom.Map.ElementType)
	}
	return false
}

func scalar(t reflect.Type, want smdschema.Scalar) bool {
	var have smdschema.Scalar
	switch t.Kind() {
	case reflect.Bool:
		have = smdschema.Boolean
	case reflect.String:
		have = smdschema.String
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16,
		reflect.Uint32, reflect.Float32, reflect.Float64:
		have = smdschema.Numeric
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return false
		}
		have = smdschema.String // bytes are read as base64
	default:
		return false
	}
	return have == want || want == smdschema.Untyped
}

func (c *conformance) object(t reflect.Type, m *smdschema.Map) bool {
	switch t.Kind() {
	case reflect.Map:
		return len(m.Fields) == 0 && t.Key().Kind() == reflect.String && c.conforms(t.Elem(), m.ElementType)
	case reflect.Struct:
		zero := reflect.Zero(t)
		for name, field := range value.TypeReflectEntryOf(t).Fields() {
			ref := m.ElementType
			if declared, ok := m.FindField(name); ok {
				ref = declared.Type
			}
			if !c.conforms(field.GetFrom(zero).Type(), ref) {
				return false
			}
		}
		return true
	}
	return false
}

func (c *conformance) list(t reflect.Type, l *smdschema.List) bool {
	if t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
		return false
	}
	element := t.Elem()
	if l.ElementRelationship == smdschema.Associative && !c.identified(element, l) {
		return false
	}
	return c.conforms(element, l.ElementType)
}

// identified tells whether every element of an associative list has what tells it from the others: a scalar has
// itself, a map has its keys, when they have a default or are always there.
func (c *conformance) identified(element reflect.Type, l *smdschema.List) bool {
	atom, ok := c.schema.Resolve(l.ElementType)
	if !ok || element.Kind() == reflect.Pointer {
		return false // an element that is null
	}
	if atom.Map == nil {
		return atom.Scalar != nil && !value.TypeReflectEntryOf(element).CanConvertToUnstructured()
	}
	if element.Kind() != reflect.Struct || len(l.Keys) == 0 {
		return false
	}
	fields := value.TypeReflectEntryOf(element).Fields()
	zero := reflect.Zero(element)
	for _, key := range l.Keys {
		if declared, ok := atom.Map.FindField(key); ok && declared.Default != nil {
			continue
		}
		field, ok := fields[key]
		if !ok {
			return false
		}
		if v := field.GetFrom(zero); v.Kind() == reflect.Pointer || field.CanOmit(v) {
			return false
		}
	}
	return true
}
