package fieldmanager

import (
	"bytes"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// converter converts between objects and typed values for the field manager of one kind. It answers what upstream's
// converter answers, and leaves out what upstream does on every write:
//
//   - Validation of objects in which duplicates are allowed, which are the live and the new object: their Go type
//     already says that they are valid (models.trusts).
//   - The conversion of a typed value back to an object, which upstream makes to learn the version it has: the value
//     still knows the object it was made from.
//   - The comparison of parts of the live and the new object that are equal (objectValue).
type converter struct {
	models  func() (*models, error)
	kind    schema.GroupKind
	unknown managedfields.TypeConverter
}

var _ managedfields.TypeConverter = (*converter)(nil)

// ObjectToTyped implements managedfields.TypeConverter. Objects of another kind have no model here, which makes managers
// forget owners of fields in versions that the group does not serve, as upstream does.
func (c *converter) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	m, err := c.models()
	if err != nil {
		return nil, err
	}
	gvk := obj.GetObjectKind().GroupVersionKind()
	model, ok := m.kinds[gvk]
	if !ok || gvk.GroupKind() != c.kind {
		return c.unknown.ObjectToTyped(obj, opts...)
	}
	t := typed.ParseableType{TypeRef: model, Schema: m.schema}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return t.FromUnstructured(u.UnstructuredContent(), opts...)
	}
	reflected, err := value.NewValueReflect(obj)
	if err != nil {
		return t.FromStructured(obj, opts...) // for upstream's error
	}
	v := &objectValue{Value: reflected, object: obj}
	if slices.Contains(opts, typed.AllowDuplicates) && ownersAreObjects(obj) && m.trusts(reflect.TypeOf(obj), model) {
		if e := reflect.ValueOf(obj).Elem(); e.Kind() == reflect.Struct {
			v.fields = e
		}
		return typed.AsTypedUnvalidated(v, m.schema, model), nil
	}
	return typed.AsTyped(v, m.schema, model, opts...)
}

// TypedToObject implements managedfields.TypeConverter. The object is shared with the value: it is only read.
func (c *converter) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	if made, ok := v.AsValue().(*objectValue); ok {
		if obj, ok := made.object.(runtime.Object); ok {
			return obj, nil
		}
	}
	return c.unknown.TypedToObject(v)
}

// ownersAreObjects tells whether the fields in an object's managedFields are JSON objects, as field managers write
// them. Their Go type could hold any JSON.
func ownersAreObjects(obj runtime.Object) bool {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return false
	}
	for _, entry := range accessor.GetManagedFields() {
		if entry.FieldsV1 != nil && !bytes.HasPrefix(entry.FieldsV1.Raw, []byte("{")) {
			return false
		}
	}
	return true
}

// compare compares two typed values.
func (m *Manager) compare(l, r *typed.TypedValue) (*typed.Comparison, error) {
	lv, isObject := l.AsValue().(*objectValue)
	rv, isToo := r.AsValue().(*objectValue)
	c, ours := m.types.(*converter)
	if ours && isObject && isToo && lv.fields.IsValid() && rv.fields.IsValid() && lv.fields.Type() == rv.fields.Type() {
		if known, err := c.models(); err == nil && l.Schema() == known.schema {
			if o := known.outlineOf(reflect.TypeOf(lv.object), l.TypeRef()); o != nil {
				return o.structs(lv.fields, rv.fields), nil
			}
		}
	}
	return l.Compare(r)
}
