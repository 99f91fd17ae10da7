package object

import (
	"errors"
	"weak"

	"k8s.io/apimachinery/pkg/runtime"

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
	v.mu.Unlock()
	if kept != nil {
		kept.used.Store(true)
		return kept.data, nil
	}
	obj, err := v.ObjectAt(at)
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
