package object

import (
	"reflect"
	"weak"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Seed gives a View made by Written the object that its JSON was encoded from, so that nobody has to decode it. It is
// copied, unless Config.Decodes, and shown once the revision is known: when the entry is there, or Committed was called. What a reader sees of
// it is what decoding gives, but that nil and empty lists or maps may differ, and that defaults which a registry's
// strategy took away stay away, as they do in the stored JSON.
func (v *View) Seed(obj runtime.Object) {
	own := obj
	if !v.codec.cfg.Decodes {
		if _, ok := obj.(*unstructured.Unstructured); ok {
			return // its schema may have more to say when it is decoded
		}
		own = obj.DeepCopyObject()
		v.codec.times().apply(reflect.ValueOf(own).Elem())
	}
	v.mu.Lock()
	v.seed = own
	v.mu.Unlock()
}

// growLocked makes the seed the decoded object, when its revision is known.
func (v *View) growLocked() {
	seed := v.seed
	v.seed = nil
	if seed == nil || v.obj.Value() != nil {
		return
	}
	_, rev := v.identityLocked()
	if setRevision(seed, rev) != nil {
		return // then it is decoded
	}
	plain, err := v.plainLocked()
	if err != nil {
		return
	}
	d := &decoded{obj: seed, rev: rev}
	d.bytes = v.codec.decodedBytes(seed, plain)
	v.obj = weak.Make(d)
	v.marks.Or(wanted)
	v.keepDecoded(&d.item)
}
