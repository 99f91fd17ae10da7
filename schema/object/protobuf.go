package object

import (
	"errors"
	"weak"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"

	"github.com/rowlock-io/rowlock/storage"
)

// ErrNoProtobuf tells that a resource has no protobuf form (custom resources).
var ErrNoProtobuf = errors.New("resource has no protobuf")

// Protobuf returns the stored version's protobuf in upstream's envelope, with a resourceVersion. That of the state's
// own revision is shared and kept for as long as Config.Hot has room: do not change it.
func (v *View) Protobuf(at storage.Revision) ([]byte, error) {
	enc := v.codec.cfg.Protobuf
	if enc == nil {
		return nil, ErrNoProtobuf
	}
	if at != v.Revision() {
		obj, err := v.ObjectAt(at)
		if err != nil {
			return nil, err
		}
		return runtime.Encode(enc, obj)
	}
	v.mu.Lock()
	kept := v.proto.Value()
	decoded := v.obj.Value() != nil
	v.mu.Unlock()
	if kept != nil {
		kept.used.Store(true)
		return kept.data, nil
	}
	obj, err := v.versioned(at, decoded)
	if err != nil {
		return nil, err
	}
	data, err := runtime.Encode(enc, obj)
	if err != nil {
		return nil, err
	}
	kept = &encoded{data: data}
	kept.bytes = int64(cap(data))
	v.mu.Lock()
	v.proto = weak.Make(kept)
	v.mu.Unlock()
	v.keep(&kept.item)
	return data, nil
}

// versioned returns an object of the caller's own top level that Protobuf encodes. One that nobody has decoded is decoded to
// its stored version and no further: the way through the version of the registries takes three times as long.
func (v *View) versioned(at storage.Revision, decoded bool) (runtime.Object, error) {
	if stored := v.codec.cfg.Stored; stored != nil && !decoded {
		plain, err := v.Plain()
		if err != nil {
			return nil, err
		}
		if obj, ok := stored(plain); ok {
			return obj, setRevision(obj, at)
		}
	}
	return v.ObjectAt(at)
}

// DecodeStored makes a Config.Stored of what is stored as a kind.
func DecodeStored(scheme *runtime.Scheme, kind schema.GroupVersionKind) func(plain []byte) (runtime.Object, bool) {
	return func(plain []byte) (runtime.Object, bool) {
		obj, err := scheme.New(kind)
		if err != nil || kjson.UnmarshalCaseSensitivePreserveInts(plain, obj) != nil || obj.GetObjectKind().GroupVersionKind() != kind {
			return nil, false
		}
		scheme.Default(obj)
		return obj, true
	}
}
