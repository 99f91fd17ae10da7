package object

import (
	"reflect"
	"unsafe"
	"weak"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rowlock-io/rowlock/storage"
)

// External returns the object in its stored version, with its resourceVersion and without its type and managed fields:
// what an informer of client-go would hold. All who ask for one state share one object for as long as any of them holds
// it; do not change it. It fails for resources without Config.External.
func (v *View) External() (runtime.Object, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if obj := v.codec.strong(v.outer); obj != nil {
		return obj, nil
	}
	obj, err := v.externalLocked()
	if err != nil {
		return nil, err
	}
	v.outer = v.codec.weaken(obj)
	return obj, nil
}

// ExternalAt returns a copy of External's top level with another resourceVersion, as ObjectAt does of Object.
func (v *View) ExternalAt(rev storage.Revision) (runtime.Object, error) {
	obj, err := v.External()
	if err != nil || v.Revision() == rev {
		return obj, err
	}
	obj = shallowCopy(obj)
	return obj, setRevision(obj, rev)
}

func (v *View) externalLocked() (runtime.Object, error) {
	var internal runtime.Object
	if d := v.obj.Value(); d != nil {
		internal = shallowCopy(d.obj) // converting sets the type for a moment
	} else {
		key, rev := v.identityLocked()
		plain, err := v.plainLocked()
		if err != nil {
			return nil, err
		}
		// It is not kept: most of it lives on in what is made of it.
		if internal, err = v.codec.decode(key, plain, rev); err != nil {
			return nil, err
		}
	}
	obj, err := v.codec.cfg.External(internal)
	if err != nil {
		return nil, &CorruptError{Key: v.Key(), err: err}
	}
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, &CorruptError{Key: v.Key(), err: err}
	}
	m.SetManagedFields(nil)
	return obj, nil
}

// weaken returns a weak pointer to an object of the stored version: to the object and not to a box around it, because an
// informer holds nothing else. All objects of a codec have one type, which weak.Pointer cannot name.
func (c *Codec) weaken(obj runtime.Object) weak.Pointer[byte] {
	at := reflect.ValueOf(obj)
	t := at.Type().Elem()
	c.external.CompareAndSwap(nil, &t)
	return weak.Make((*byte)(at.UnsafePointer()))
}

// strong returns what weaken was given, or nil when it is gone.
func (c *Codec) strong(p weak.Pointer[byte]) runtime.Object {
	at := p.Value()
	if at == nil {
		return nil
	}
	obj, _ := reflect.NewAt(*c.external.Load(), unsafe.Pointer(at)).Interface().(runtime.Object) //nolint:gosec // weaken tells why
	return obj
}
