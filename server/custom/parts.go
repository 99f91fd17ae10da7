package custom

import (
	"errors"
	"fmt"
	"reflect"

	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/endpoints/handlers"
)

// parts are what upstream's handler has made for one version of a definition.
type parts struct {
	storage       customresource.CustomResourceStorage
	scope, status *handlers.RequestScope
	types         managedfields.TypeConverter
}

var errStrange = errors.New("upstream's handler is made in another way")

// partsOf finds in upstream's handler what it has made of its one definition. It shows it to nobody; making it a second time
// would take twice the memory and time. The tests notice when upstream keeps it elsewhere.
func partsOf(handler any) (map[string]*parts, error) {
	info, err := infoOf(reflect.ValueOf(handler))
	if err != nil {
		return nil, err
	}
	storages, scopes, status := info.FieldByName("storages"), info.FieldByName("requestScopes"), info.FieldByName("statusRequestScopes")
	if storages.Kind() != reflect.Map || scopes.Kind() != reflect.Map || status.Kind() != reflect.Map {
		return nil, fmt.Errorf("%w: no scopes", errStrange)
	}
	out := map[string]*parts{}
	for each := storages.MapRange(); each.Next(); {
		p := &parts{scope: pointed[handlers.RequestScope](scopes.MapIndex(each.Key())), status: pointed[handlers.RequestScope](status.MapIndex(each.Key()))}
		p.storage.CustomResource = pointed[customresource.REST](each.Value().FieldByName("CustomResource"))
		p.storage.Status = pointed[customresource.StatusREST](each.Value().FieldByName("Status"))
		if p.scope == nil || p.status == nil || p.storage.CustomResource == nil || p.scope.FieldManager == nil {
			return nil, fmt.Errorf("%w: no scope of %s", errStrange, each.Key())
		}
		if p.types = typesOf(reflect.ValueOf(p.scope.FieldManager)); p.types == nil {
			return nil, fmt.Errorf("%w: no types of %s", errStrange, each.Key())
		}
		out[each.Key().String()] = p
	}
	return out, nil
}

// infoOf returns what the handler knows of its only definition.
func infoOf(handler reflect.Value) (reflect.Value, error) {
	if handler.Kind() != reflect.Pointer || handler.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, errStrange
	}
	kept := handler.Elem().FieldByName("customStorage") // an atomic.Value
	if kept.Kind() != reflect.Struct || kept.FieldByName("v").Kind() != reflect.Interface {
		return reflect.Value{}, fmt.Errorf("%w: no storage", errStrange)
	}
	infos := kept.FieldByName("v").Elem()
	if infos.Kind() != reflect.Map || infos.Len() != 1 {
		return reflect.Value{}, fmt.Errorf("%w: not one definition", errStrange)
	}
	each := infos.MapRange()
	each.Next()
	info := each.Value()
	if info.Kind() != reflect.Pointer || info.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, fmt.Errorf("%w: no definition", errStrange)
	}
	return info.Elem(), nil
}

// pointed is what a pointer in a field that is not exported points to; nil where there is no pointer to a T.
func pointed[T any](v reflect.Value) *T {
	if !v.IsValid() || v.Type() != reflect.TypeFor[*T]() || v.IsNil() {
		return nil
	}
	p, _ := reflect.NewAt(reflect.TypeFor[T](), v.UnsafePointer()).Interface().(*T)
	return p
}

// typesOf looks for the type converter in the chain of managers that a field manager is.
func typesOf(manager reflect.Value) managedfields.TypeConverter {
	for range 16 { // longer than the chain
		for manager.Kind() == reflect.Interface || manager.Kind() == reflect.Pointer {
			manager = manager.Elem()
		}
		if manager.Kind() != reflect.Struct {
			return nil
		}
		if types := manager.FieldByName("typeConverter"); types.IsValid() {
			return converterIn(types)
		}
		if manager = manager.FieldByName("fieldManager"); !manager.IsValid() {
			return nil
		}
	}
	return nil
}

func converterIn(v reflect.Value) managedfields.TypeConverter {
	if v.Kind() != reflect.Interface || v.IsNil() {
		return nil
	}
	if v = v.Elem(); v.Kind() != reflect.Pointer {
		return managedfields.NewDeducedTypeConverter() // which is no pointer, and has no state
	}
	types, _ := reflect.NewAt(v.Type().Elem(), v.UnsafePointer()).Interface().(managedfields.TypeConverter)
	return types
}
