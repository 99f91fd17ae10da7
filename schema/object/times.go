package object

import (
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// times knows where objects of one Go type hold points in time, to cut them to what JSON keeps of them: whole seconds of
// a Time, microseconds of a MicroTime. It does not look behind interfaces.
type times struct {
	fields []timesField // of a struct
	elem   *times       // of a pointer, slice, array or map
	cut    func(reflect.Value)
}

type timesField struct {
	index int
	times *times
}

var (
	timeType      = reflect.TypeFor[metav1.Time]()
	microTimeType = reflect.TypeFor[metav1.MicroTime]()
)

// timesOf returns nil for a type that holds none. known holds the types that contain the one asked for, and what was
// found; types may contain themselves.
func timesOf(t reflect.Type, known map[reflect.Type]*times) *times {
	if found, ok := known[t]; ok {
		return found
	}
	found := &times{}
	known[t] = found
	switch {
	case t == timeType:
		found.cut = cutTime
		return found
	case t == microTimeType:
		found.cut = cutMicroTime
		return found
	}
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if !t.Field(i).IsExported() {
				continue
			}
			if inner := timesOf(t.Field(i).Type, known); inner != nil {
				found.fields = append(found.fields, timesField{i, inner})
			}
		}
		if found.fields != nil {
			return found
		}
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		if found.elem = timesOf(t.Elem(), known); found.elem != nil {
			return found
		}
	}
	known[t] = nil
	return nil
}

// apply cuts all times within a value that can be set.
func (p *times) apply(v reflect.Value) {
	if p == nil {
		return
	}
	if p.cut != nil {
		p.cut(v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range p.fields {
			f.times.apply(v.Field(f.index))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			p.elem.apply(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			p.elem.apply(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			p.elem.apply(value)
			v.SetMapIndex(key, value)
		}
	}
}

func cutTime(v reflect.Value) {
	if at := v.Addr().Interface().(*metav1.Time); !at.IsZero() {
		at.Time = time.Unix(at.Unix(), 0)
	}
}

func cutMicroTime(v reflect.Value) {
	if at := v.Addr().Interface().(*metav1.MicroTime); !at.IsZero() {
		at.Time = time.UnixMicro(at.UnixMicro())
	}
}
