package read

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// ResourceConfig describes one resource in the one version in which it is stored and in which this package serves it.
type ResourceConfig struct {
	Kind       schema.GroupVersionKind // the stored version
	ListKind   string                  // "PodList"; Kind.Kind + "List" when empty
	Resource   schema.GroupVersionResource
	Namespaced bool
	// Unstructured resources are encoded as maps: members in the order of their names, each item of a list with its kind and
	// version. Their Codec shows them in Kind's version (object.Config.Canonical).
	Unstructured bool
	New          func() runtime.Object // an empty object, internal version, for bookmarks
	Codec        *object.Codec
	Cache        *cache.Cache
	// GetAttrs is needed when the Codec has none: labels and selectable fields of a decoded object.
	GetAttrs apistorage.AttrFunc
	// FieldLabel checks and converts one term of a field selector, as the scheme's ConvertFieldLabel does for Kind.
	FieldLabel func(label, value string) (string, string, error)
	// Table prints objects as rows, as the fallback handlers do; nil: tables are left to those.
	Table rest.TableConvertor
	// Serializer replaces Config.Serializer for this resource; nil: no.
	Serializer runtime.NegotiatedSerializer
}

// Resource is a ResourceConfig with all that can be prepared once.
type Resource struct {
	ResourceConfig
	storageName string
	serializer  runtime.NegotiatedSerializer
	encoders    [mediaCount]runtime.Encoder // nil where the serializer does not speak the media type
	jsonHead    []byte                      // what every stored object begins with: {"kind":"Pod","apiVersion":"v1",
	listHead    []byte                      // {"kind":"PodList","apiVersion":"v1","metadata":
	protoHead   []byte                      // magic and type of a list's envelope
	observe     func(bytes int)
	table       func() *table // nil: tables need more than kept rows
}

// NewResource prepares a resource for this handler.
func (h *Handler) NewResource(cfg ResourceConfig) *Resource {
	if cfg.ListKind == "" {
		cfg.ListKind = cfg.Kind.Kind + "List"
	}
	r := &Resource{
		ResourceConfig: cfg,
		storageName:    cfg.Codec.Resource(),
		serializer:     cfg.Serializer,
		observe:        func(int) {},
	}
	if h.cfg.Observe != nil {
		r.observe = h.cfg.Observe(cfg.Resource)
	}
	if r.serializer == nil {
		r.serializer = h.cfg.Serializer
	}
	for m := range mediaCount {
		if m == mediaProtobuf && cfg.Codec.Config().Protobuf == nil {
			continue
		}
		if info, ok := runtime.SerializerInfoForMediaType(r.serializer.SupportedMediaTypes(), m.contentType()); ok {
			r.encoders[m] = r.serializer.EncoderForVersion(info.Serializer, cfg.Kind.GroupVersion())
		}
	}
	apiVersion := cfg.Kind.GroupVersion().String()
	r.jsonHead = fmt.Appendf(nil, `{"kind":%s,"apiVersion":%s,`, strconv.Quote(cfg.Kind.Kind), strconv.Quote(apiVersion))
	r.listHead = fmt.Appendf(nil, `{"kind":%s,"apiVersion":%s,"metadata":`, strconv.Quote(cfg.ListKind), strconv.Quote(apiVersion))
	r.protoHead = appendUnknownHead(nil, apiVersion, cfg.ListKind)
	if cfg.Table != nil && steady[cfg.Codec.Config().Resource] {
		r.table = sync.OnceValue(r.newTable)
	}
	return r
}

// key names one object of the resource.
func (r *Resource) key(namespace, name string) storage.Key {
	if !r.Namespaced {
		namespace = ""
	}
	return storage.Key{Resource: r.storageName, Namespace: namespace, Name: name}
}

// encode encodes an object that is not stored bytes (a bookmark, a Status) as it appears inside a watch event.
func (r *Resource) encode(m media, obj runtime.Object) ([]byte, error) {
	var buf bytes.Buffer
	if err := r.encoders[m].Encode(obj, &buf); err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	if m == mediaJSON {
		return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
	}
	return buf.Bytes(), nil
}
