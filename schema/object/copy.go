package object

import (
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// shallowCopy copies an object so far that its type and top-level metadata fields can be set without the original
// noticing.
func shallowCopy(obj runtime.Object) runtime.Object {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		content := maps.Clone(u.Object)
		if meta, ok := content["metadata"].(map[string]any); ok {
			content["metadata"] = maps.Clone(meta)
		}
		return &unstructured.Unstructured{Object: content}
	}
	from := reflect.ValueOf(obj).Elem()
	to := reflect.New(from.Type())
	to.Elem().Set(from)
	return to.Interface().(runtime.Object)
}
