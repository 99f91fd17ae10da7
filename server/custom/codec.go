package custom

import (
	"bytes"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// lazyCodec is one version's codec of stored objects for as long as the definition lives. What it takes to encode and
// decode is made when it is needed, and may be dropped in between.
type lazyCodec struct {
	d       *definition
	version string
}

var _ runtime.Codec = lazyCodec{}

func (c lazyCodec) made() (versionStorage, error) {
	s, err := c.d.serving()
	if err != nil {
		return versionStorage{}, err
	}
	v, ok := s.versions[c.version]
	if !ok {
		return v, fmt.Errorf("%s has no version %s", c.d.name, c.version)
	}
	return v, nil
}

// Encode implements runtime.Encoder.
func (c lazyCodec) Encode(obj runtime.Object, w io.Writer) error {
	v, err := c.made()
	if err != nil {
		return err
	}
	return v.codec.Encode(obj, w)
}

// Identifier implements runtime.Encoder.
func (c lazyCodec) Identifier() runtime.Identifier {
	return runtime.Identifier("custom/" + c.d.name + "/" + c.version)
}

// Decode implements runtime.Decoder.
func (c lazyCodec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	v, err := c.made()
	if err != nil {
		return nil, nil, err
	}
	return c.decode(v, data, defaults, into)
}

// decode decodes once what has the version that is asked for. Upstream's codec decodes into another object than it was given,
// and converts that: from and to one version this prunes what is pruned, of a copy.
func (c lazyCodec) decode(v versionStorage, data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	to, ok := into.(*unstructured.Unstructured)
	if !ok || !bytes.HasPrefix(data, v.head) || to.GroupVersionKind() != v.kind {
		return v.codec.Decode(data, defaults, into)
	}
	out := &unstructured.Unstructured{} // codecs take one without a version as it is
	_, kind, err := v.codec.Decode(data, defaults, out)
	if err != nil {
		return nil, kind, err
	}
	to.Object = out.Object
	return to, kind, nil
}

func (c lazyCodec) attrs(obj runtime.Object) (labels.Set, fields.Set, error) {
	v, err := c.made()
	if err != nil {
		return nil, nil, err
	}
	return v.attrs(obj)
}

// canonical is what stored JSON looks like after the conversion, pruning and defaulting that upstream does whenever it
// reads.
func (c lazyCodec) canonical(stored []byte) ([]byte, error) {
	v, err := c.made()
	if err != nil {
		return nil, err
	}
	obj, _, err := c.decode(v, stored, nil, v.newFunc())
	if err != nil {
		return nil, err
	}
	data, err := runtime.Encode(v.codec, obj)
	return bytes.TrimSuffix(data, []byte{'\n'}), err
}

// normal is an object as it will be read: upstream prunes and defaults when it decodes, and also what was changed since
// the request was decoded.
func (c lazyCodec) normal(obj runtime.Object) (stored, decoded runtime.Object, err error) {
	v, err := c.made()
	if err != nil {
		return nil, nil, err
	}
	data, err := runtime.Encode(v.codec, obj)
	if err != nil {
		return nil, nil, err
	}
	decoded, _, err = c.decode(v, data, nil, v.newFunc())
	return decoded, decoded, err
}
