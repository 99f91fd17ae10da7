package custom

import (
	"errors"

	upstream "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/crdserverscheme"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/versioning"
)

var errNotSelectable = errors.New("field cannot be selected by")

// jsonOnly encodes what the byte path sends beside stored bytes: bookmarks and errors. Requests for other media types are
// not for it.
type jsonOnly struct{}

// SupportedMediaTypes implements runtime.NegotiatedSerializer.
func (jsonOnly) SupportedMediaTypes() []runtime.SerializerInfo {
	typer := objectTyper{}
	plain := json.NewSerializerWithOptions(json.DefaultMetaFactory, unstructuredCreater{}, typer, json.SerializerOptions{})
	return []runtime.SerializerInfo{{
		MediaType: runtime.ContentTypeJSON, MediaTypeType: "application", MediaTypeSubType: "json", EncodesAsText: true,
		Serializer:       plain,
		PrettySerializer: json.NewSerializerWithOptions(json.DefaultMetaFactory, unstructuredCreater{}, typer, json.SerializerOptions{Pretty: true}),
		StreamSerializer: &runtime.StreamSerializerInfo{EncodesAsText: true, Serializer: plain, Framer: json.Framer},
	}}
}

// EncoderForVersion implements runtime.NegotiatedSerializer.
func (jsonOnly) EncoderForVersion(encoder runtime.Encoder, gv runtime.GroupVersioner) runtime.Encoder {
	return versioning.NewCodec(encoder, nil, runtime.UnsafeObjectConvertor(upstream.Scheme), unstructuredCreater{}, objectTyper{}, nil, gv, nil, "custom")
}

// DecoderToVersion implements runtime.NegotiatedSerializer. Nothing is decoded with it.
func (jsonOnly) DecoderToVersion(decoder runtime.Decoder, _ runtime.GroupVersioner) runtime.Decoder {
	return decoder
}

type unstructuredCreater struct{}

// New implements runtime.ObjectCreater.
func (unstructuredCreater) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return u, nil
}

// objectTyper knows unstructured objects by what they say, and others by upstream's scheme.
type objectTyper struct{}

var _ runtime.ObjectTyper = objectTyper{}

// ObjectKinds implements runtime.ObjectTyper.
func (objectTyper) ObjectKinds(obj runtime.Object) ([]schema.GroupVersionKind, bool, error) {
	if _, ok := obj.(runtime.Unstructured); ok {
		return crdserverscheme.NewUnstructuredObjectTyper().ObjectKinds(obj)
	}
	return upstream.Scheme.ObjectKinds(obj)
}

// Recognizes implements runtime.ObjectTyper.
func (objectTyper) Recognizes(kind schema.GroupVersionKind) bool { return true }
