package pods

import (
	"encoding/binary"
	"maps"
	"reflect"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"
	api "k8s.io/kubernetes/pkg/apis/core"
)

// same tells that two values of one type are equal to the letter, and so in every other sense. That it is false says nothing:
// kinds of values that no pod has are never the same. Unlike upstream's equality it takes no memory.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Bool:
		return a.Bool() == b.Bool()
	case reflect.String:
		return a.String() == b.String()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return a.Int() == b.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return a.Uint() == b.Uint()
	case reflect.Pointer:
		return a.Pointer() == b.Pointer() || !a.IsNil() && !b.IsNil() && same(a.Elem(), b.Elem())
	case reflect.Slice:
		if a.Len() != b.Len() || a.IsNil() != b.IsNil() {
			return false
		}
		if a.Pointer() == b.Pointer() {
			return true
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) && !written(a.Type(), i) {
				return false
			}
		}
		return true
	case reflect.Map:
		return a.IsNil() == b.IsNil() && sameMap(a, b)
	default:
		return false
	}
}

// written tells that a field is how a quantity was written before, which says nothing of what it is.
func written(t reflect.Type, i int) bool { return t == quantity && t.Field(i).Name == "s" }

var quantity = reflect.TypeFor[resource.Quantity]()

func sameMap(a, b reflect.Value) bool {
	if !a.CanInterface() || !b.CanInterface() {
		return false
	}
	switch a := a.Interface().(type) {
	case map[string]string:
		b, ok := b.Interface().(map[string]string)
		return ok && maps.Equal(a, b)
	case api.ResourceList:
		b, ok := b.Interface().(api.ResourceList)
		return ok && maps.EqualFunc(a, b, func(a, b resource.Quantity) bool {
			return same(reflect.ValueOf(&a).Elem(), reflect.ValueOf(&b).Elem())
		})
	}
	return false
}

// writer writes values so that those of one type that differ are written differently, even one after another.
type writer struct {
	data    []byte
	strange bool // there was a value that is not known here
}

var writers = sync.Pool{New: func() any { return new(writer) }}

// maxWriter: larger ones are not kept for the next pod.
const maxWriter = 64 << 10

func (w *writer) free() {
	if cap(w.data) <= maxWriter {
		w.data, w.strange = w.data[:0], false
		writers.Put(w)
	}
}

func (w *writer) size(n int) { w.data = binary.AppendUvarint(w.data, uint64(n)) }

func (w *writer) text(s string) {
	w.size(len(s))
	w.data = append(w.data, s...)
}

func (w *writer) flag(set bool) {
	if set {
		w.data = append(w.data, 1)
	} else {
		w.data = append(w.data, 0)
	}
}

func (w *writer) add(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		w.flag(v.Bool())
	case reflect.String:
		w.text(v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		w.data = binary.AppendVarint(w.data, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		w.data = binary.AppendUvarint(w.data, v.Uint())
	case reflect.Pointer:
		w.flag(!v.IsNil())
		if !v.IsNil() {
			w.add(v.Elem())
		}
	case reflect.Slice:
		w.flag(!v.IsNil())
		w.size(v.Len())
		for i := range v.Len() {
			w.add(v.Index(i))
		}
	case reflect.Struct:
		t := v.Type()
		for i := range v.NumField() {
			if !written(t, i) {
				w.add(v.Field(i))
			}
		}
	case reflect.Map:
		w.flag(!v.IsNil())
		w.size(v.Len())
		w.entries(v)
	default:
		w.strange = true
	}
}

func (w *writer) entries(v reflect.Value) {
	if v.Len() == 0 {
		return
	}
	if !v.CanInterface() {
		w.strange = true
		return
	}
	switch m := v.Interface().(type) {
	case map[string]string:
		for _, key := range slices.Sorted(maps.Keys(m)) {
			w.text(key)
			w.text(m[key])
		}
	case api.ResourceList:
		for _, key := range slices.Sorted(maps.Keys(m)) {
			w.text(string(key))
			q := m[key]
			w.add(reflect.ValueOf(&q).Elem())
		}
	default:
		w.strange = true
	}
}
