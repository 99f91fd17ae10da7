package catalogue

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/server/options"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/apis/coordination"
	"k8s.io/kubernetes/pkg/kubeapiserver"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/object"
)

// optionsGetter hands our storage to upstream's registries: the same as kube-apiserver's own, with another Decorator.
type optionsGetter struct {
	cfg     Config
	factory *serverstorage.DefaultStorageFactory
	codecs  *codecs
}

var _ generic.RESTOptionsGetter = &optionsGetter{}

func newOptionsGetter(cfg Config) (*optionsGetter, error) {
	etcd := options.NewEtcdOptions(storagebackend.NewDefaultConfig("/registry", nil))
	// JSON is what goes to the database: operators read it with SQL, and most replies are made of its bytes.
	etcd.DefaultStorageMediaType = runtime.ContentTypeJSON
	fc := kubeapiserver.NewStorageFactoryConfig()
	fc.APIResourceConfig = cfg.Versions.enabled()
	f, err := fc.Complete(etcd).New()
	if err != nil {
		return nil, fmt.Errorf("storage versions: %w", err)
	}
	return &optionsGetter{cfg: cfg, factory: f, codecs: newCodecs()}, nil
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g *optionsGetter) GetRESTOptions(gr schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	config, err := g.factory.NewConfig(gr, example)
	if err != nil {
		return generic.RESTOptions{}, fmt.Errorf("storage version of %s: %w", gr, err)
	}
	return g.restOptions(gr, config), nil
}

func (g *optionsGetter) restOptions(gr schema.GroupResource, config *storagebackend.ConfigForResource) generic.RESTOptions {
	return generic.RESTOptions{
		StorageConfig:           config,
		Decorator:               g.decorate,
		ResourcePrefix:          "/" + g.factory.ResourcePrefix(gr),
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: 64, // concurrent deletes share commits
	}
}

func (g *optionsGetter) decorate(config *storagebackend.ConfigForResource, prefix string, _ func(runtime.Object) (string, error),
	newFunc, newListFunc func() runtime.Object, attrs apistorage.AttrFunc, triggers apistorage.IndexerFuncs, _ *toolscache.Indexers,
) (apistorage.Interface, factory.DestroyFunc, error) {
	gr := storedAs(config.GroupResource)
	codec := g.codecs.getOrMake(gr, func() *object.Codec {
		oc := object.Config{
			Resource: gr, Codec: config.Codec, Default: defaulter(config), External: externalizer(config), Stored: decoder(config, newFunc()),
			Protobuf: g.protobuf(config), New: newFunc, NewList: newListFunc, GetAttrs: attrs,
			Relaxed: relaxed(gr), Hot: g.cfg.Hot, Indexed: indexed(triggers),
		}
		if gr == (schema.GroupResource{Resource: "events"}) {
			oc.TTL = g.cfg.EventTTL
		}
		if gr == customResourceDefinitions {
			oc.Weight = schemaWeight
		}
		if g.cfg.Transform != nil {
			oc.Transformer = g.cfg.Transform(gr)
		}
		return object.NewCodec(oc)
	})
	return adapter.New(g.cfg.Backend, codec, prefix), func() {}, nil
}

// indexed are the fields that upstream has indexes of, but for those that the key has.
func indexed(triggers apistorage.IndexerFuncs) []string {
	var fields []string
	for field := range triggers {
		if !strings.HasPrefix(field, "metadata.") {
			fields = append(fields, field)
		}
	}
	slices.Sort(fields)
	return fields
}

// customResourceDefinitions are nearly all schema, of which each node is a large struct.
var customResourceDefinitions = schema.GroupResource{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}

// schemaWeight is what a heap profile of decoded definitions showed.
const schemaWeight = 10

// defaulter sets the defaults of objects in their stored version.
func defaulter(config *storagebackend.ConfigForResource) func(runtime.Object) (stored, decoded runtime.Object, err error) {
	scheme := schemeOf(config.GroupResource.Group)
	return func(obj runtime.Object) (stored, decoded runtime.Object, err error) {
		if stored, err = scheme.UnsafeConvertToVersion(obj, config.EncodeVersioner); err != nil {
			return nil, nil, err
		}
		scheme.Default(stored)
		internal := schema.GroupVersion{Group: stored.GetObjectKind().GroupVersionKind().Group, Version: runtime.APIVersionInternal}
		decoded, err = scheme.UnsafeConvertToVersion(stored, internal)
		return stored, decoded, err
	}
}

// externalizer converts objects to their stored version.
func externalizer(config *storagebackend.ConfigForResource) func(runtime.Object) (runtime.Object, error) {
	scheme := schemeOf(config.GroupResource.Group)
	return func(obj runtime.Object) (runtime.Object, error) {
		return scheme.UnsafeConvertToVersion(obj, config.EncodeVersioner)
	}
}

// decoder decodes objects of the type of an example to their stored version; nil where that is not known.
func decoder(config *storagebackend.ConfigForResource, example runtime.Object) func([]byte) (runtime.Object, bool) {
	scheme := schemeOf(config.GroupResource.Group)
	kinds, _, err := scheme.ObjectKinds(example)
	if err != nil {
		return nil
	}
	kind, ok := config.EncodeVersioner.KindForGroupVersionKinds(kinds)
	if !ok {
		return nil
	}
	return object.DecodeStored(scheme, kind)
}

// protobuf encodes objects in their stored version for clients that speak it.
func (g *optionsGetter) protobuf(config *storagebackend.ConfigForResource) runtime.Encoder {
	serializer := serializerOf(config.GroupResource.Group)
	info, ok := runtime.SerializerInfoForMediaType(serializer.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	if !ok {
		return nil
	}
	return serializer.EncoderForVersion(info.Serializer, config.EncodeVersioner)
}

// storedAs names the resource under which objects are kept: events of both groups are the same objects.
func storedAs(gr schema.GroupResource) schema.GroupResource {
	if gr.Group == "events.k8s.io" && gr.Resource == "events" {
		return schema.GroupResource{Resource: "events"}
	}
	return gr
}

// relaxed tells what may be acknowledged before it is on disk: heartbeats and Events, the bulk of an idle cluster's writes,
// which their writers repeat or may lose. Nil: nothing of the resource.
func relaxed(gr schema.GroupResource) func(obj, old runtime.Object) bool {
	switch gr {
	case schema.GroupResource{Resource: "events"}:
		return func(_, _ runtime.Object) bool { return true }
	case schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}:
		return renewed
	}
	return nil
}

// renewed tells whether a Lease is held by who held it. That it is somebody else's now must not be forgotten: two would act.
func renewed(obj, old runtime.Object) bool {
	now, is := obj.(*coordination.Lease)
	then, was := old.(*coordination.Lease)
	return is && was && ptr.Equal(now.Spec.HolderIdentity, then.Spec.HolderIdentity) &&
		ptr.Equal(now.Spec.LeaseTransitions, then.Spec.LeaseTransitions) && now.DeletionTimestamp == nil
}

// codecs are the codecs of one catalogue by stored resource. A resource served by several registries (status and other
// subresources, events of two groups) has one.
type codecs struct {
	mu sync.Mutex
	m  map[schema.GroupResource]*object.Codec
}

func newCodecs() *codecs { return &codecs{m: map[schema.GroupResource]*object.Codec{}} }

func (c *codecs) getOrMake(gr schema.GroupResource, build func() *object.Codec) *object.Codec {
	c.mu.Lock()
	defer c.mu.Unlock()
	codec := c.m[gr]
	if codec == nil {
		codec = build()
		c.m[gr] = codec
	}
	return codec
}

func (c *codecs) get(gr schema.GroupResource) *object.Codec {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[storedAs(gr)]
}

func (c *codecs) all() []*object.Codec {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*object.Codec, 0, len(c.m))
	for _, codec := range c.m {
		all = append(all, codec)
	}
	return all
}
