// Package narrow leaves out of patches what they do not name. To apply a patch is to turn an object into a tree of maps, or
// into JSON, and back, which is most of the work of a patch: of a pod whose label is set that is all of its containers. What
// a patch does not name cannot change by it: a patch is applied to the part of the object that it names, and the part is
// completed before defaults are set, so that everything that follows sees the whole object.
//
// It is for merge patches and strategic merge patches. When one fails it has to be applied to the whole object, because
// upstream's words may contain it.
package narrow

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Shape knows where the fields of a Go type stand, by the names that they have in JSON.
type Shape struct {
	inline []int            // fields without a name: apiVersion and kind
	fields map[string]field // all others
}

type field struct {
	at    int
	below map[string]int // the fields of a struct; nil: it is copied as a whole
}

// ShapeOf returns the shape of a kind; nil for types that are more than structs of fields, or that the scheme does not know.
func ShapeOf(scheme *runtime.Scheme, kind schema.GroupVersionKind) *Shape {
	obj, err := scheme.New(kind)
	if err != nil {
		return nil
	}
	t := reflect.TypeOf(obj)
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct || encodesItself(t.Elem()) {
		return nil
	}
	switch obj.(type) {
	case runtime.Unstructured, runtime.NestedObjectDecoder, runtime.NestedObjectEncoder:
		return nil
	}
	s := &Shape{fields: map[string]field{}}
	t = t.Elem()
	for i := range t.NumField() {
		f := t.Field(i)
		name, inline := nameOf(f)
		switch {
		case !f.IsExported():
			return nil
		case inline && f.Name == "TypeMeta":
			s.inline = append(s.inline, i)
		case inline:
			return nil
		case name != "":
			s.fields[name] = field{at: i, below: members(f.Type)}
		}
	}
	return s
}

// members returns where the fields of a struct stand; nil for what is no plain struct.
func members(t reflect.Type) map[string]int {
	if t.Kind() != reflect.Struct || encodesItself(t) {
		return nil
	}
	at := map[string]int{}
	for i := range t.NumField() {
		name, inline := nameOf(t.Field(i))
		if inline || !t.Field(i).IsExported() {
			return nil
		}
		if name != "" {
			at[name] = i
		}
	}
	return at
}

// nameOf returns a field's name in JSON, "" for one that is not there.
func nameOf(f reflect.StructField) (name string, inline bool) {
	tag, ok := f.Tag.Lookup("json")
	name, options, _ := strings.Cut(tag, ",")
	switch {
	case tag == "-":
		return "", false
	case name != "":
		return name, false
	case f.Anonymous || strings.Contains(options, "inline"):
		return "", true
	case !ok || name == "":
		return f.Name, false
	}
	return name, false
}

var itself = []reflect.Type{
	reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler](),
	reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
}

// encodesItself tells whether a type's JSON is something else than its fields.
func encodesItself(t reflect.Type) bool {
	for _, i := range itself {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return false
}

// Part returns a new object of obj's type that has the touched fields only. It shares what lies below them with obj.
func (s *Shape) Part(obj runtime.Object, fields Touched) runtime.Object {
	from := reflect.ValueOf(obj).Elem()
	to := reflect.New(from.Type())
	s.copy(to.Elem(), from, fields)
	return to.Interface().(runtime.Object)
}

// Complete sets what is not touched in obj to a copy of what it is in whole, an object of the same type.
func (s *Shape) Complete(obj, whole runtime.Object, fields Touched) {
	from, all := reflect.ValueOf(obj).Elem(), reflect.ValueOf(whole.DeepCopyObject()).Elem()
	s.copy(all, from, fields)
	from.Set(all)
}

// copy sets the touched fields of to, and its kind, to those of from.
func (s *Shape) copy(to, from reflect.Value, fields Touched) {
	for _, i := range s.inline {
		to.Field(i).Set(from.Field(i))
	}
	for name, names := range fields {
		f, ok := s.fields[name]
		if !ok {
			continue // there is no such field, as the decoder will say
		}
		if names == nil || f.below == nil {
			to.Field(f.at).Set(from.Field(f.at))
			continue
		}
		for name := range names {
			if i, ok := f.below[name]; ok {
				to.Field(f.at).Field(i).Set(from.Field(f.at).Field(i))
			}
		}
	}
}
