package read_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	configmapstore "k8s.io/kubernetes/pkg/registry/core/configmap/storage"
	eventstore "k8s.io/kubernetes/pkg/registry/core/event/storage"
	namespacestore "k8s.io/kubernetes/pkg/registry/core/namespace/storage"
	podstore "k8s.io/kubernetes/pkg/registry/core/pod/storage"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
	"github.com/rowlock-io/rowlock/storage/commit"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// cluster is one cluster on the memory store with a few of upstream's registries over it.
type cluster struct {
	store     storage.Store
	cache     *cache.Cache
	committer *commit.Committer
	hot       *object.Hot
	codecs    map[string]*object.Codec
	resources map[string]*served
	revisions map[storage.Key]storage.Revision
	stop      func()
}

// served is one resource, answered in both ways.
type served struct {
	storage rest.Storage
	scope   *handlers.RequestScope
	res     *read.Resource
}

var coreV1 = schema.GroupVersion{Version: "v1"}

// wire is the serializer of both ways: streaming, as kube-apiserver's.
func wire() serializer.CodecFactory {
	return serializer.NewCodecFactory(legacyscheme.Scheme,
		serializer.WithStreamingCollectionEncodingToJSON(), serializer.WithStreamingCollectionEncodingToProtobuf())
}

func newCluster(t testing.TB, cfg read.Config) (*cluster, *read.Handler) {
	t.Helper()
	return newClusterWith(t, cfg, cache.Config{})
}

func newClusterWith(t testing.TB, cfg read.Config, cc cache.Config) (*cluster, *read.Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	db := memory.New()
	if err := db.CreateCluster(ctx, "default"); err != nil {
		t.Fatal(err)
	}
	store, err := db.OpenCluster(ctx, "default")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		store: store, hot: object.NewHot(64 << 20),
		codecs: map[string]*object.Codec{}, resources: map[string]*served{}, revisions: map[storage.Key]storage.Revision{},
	}
	cc.Store = store
	c.cache = cache.New(cc)
	c.committer = commit.New(store, commit.Config{Applied: c.cache.Apply})
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.cache.Run(ctx) })
	wg.Go(func() { _ = c.committer.Run(ctx) })
	c.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(c.stop)
	<-c.cache.Ready()

	cfg.Serializer = wire()
	h := read.New(cfg)
	must := func(s rest.Storage, err error) rest.Storage {
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	configMaps, err := configmapstore.NewREST(c)
	c.serve(t, h, "configmaps", must(configMaps, err), true)
	events, err := eventstore.NewREST(c, 3600)
	c.serve(t, h, "events", must(events, err), true)
	namespaces, _, _, err := namespacestore.NewREST(c)
	c.serve(t, h, "namespaces", must(namespaces, err), false)
	pods, err := podstore.NewStorage(c, nil, nil, nil, nil)
	c.serve(t, h, "pods", must(pods.Pod, err), true)
	return c, h
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (c *cluster) GetRESTOptions(gr schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	config := &storagebackend.ConfigForResource{GroupResource: gr}
	config.Codec = legacyscheme.Codecs.LegacyCodec(coreV1)
	return generic.RESTOptions{
		StorageConfig: config, ResourcePrefix: "/" + gr.Resource, DeleteCollectionWorkers: 1,
		Decorator: func(_ *storagebackend.ConfigForResource, prefix string, _ func(runtime.Object) (string, error),
			newFunc, newListFunc func() runtime.Object, attrs apistorage.AttrFunc, _ apistorage.IndexerFuncs, _ *toolscache.Indexers,
		) (apistorage.Interface, factory.DestroyFunc, error) {
			codec := c.codecs[gr.Resource]
			if codec == nil {
				info, _ := runtime.SerializerInfoForMediaType(legacyscheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
				ttl := map[string]time.Duration{"events": time.Hour}
				codec = object.NewCodec(object.Config{
					TTL:      ttl[gr.Resource],
					Indexed:  map[string][]string{"pods": {"spec.nodeName"}}[gr.Resource],
					Resource: gr, Codec: config.Codec, New: newFunc, NewList: newListFunc, GetAttrs: attrs, Hot: c.hot,
					Protobuf: legacyscheme.Codecs.EncoderForVersion(info.Serializer, coreV1),
				})
				c.codecs[gr.Resource] = codec
			}
			b := adapter.Backend{Store: c.store, Cache: c.cache, Committer: c.committer}
			return adapter.New(b, codec, prefix), func() {}, nil
		},
	}, nil
}

func (c *cluster) serve(t testing.TB, h *read.Handler, name string, s rest.Storage, namespaced bool) {
	t.Helper()
	kinds, _, err := legacyscheme.Scheme.ObjectKinds(s.New())
	if err != nil {
		t.Fatal(err)
	}
	kind := coreV1.WithKind(kinds[0].Kind)
	scheme := legacyscheme.Scheme
	c.resources[name] = &served{
		storage: s,
		scope: &handlers.RequestScope{
			Namer:      handlers.ContextBasedNaming{Namer: meta.NewAccessor(), ClusterScoped: !namespaced},
			Serializer: wire(), ParameterCodec: legacyscheme.ParameterCodec,
			Creater: scheme, Convertor: scheme, Defaulter: scheme, Typer: scheme,
			UnsafeConvertor: runtime.UnsafeObjectConvertor(scheme), TableConvertor: s.(rest.TableConvertor),
			Resource: coreV1.WithResource(name), Kind: kind,
			HubGroupVersion:  schema.GroupVersion{Version: runtime.APIVersionInternal},
			MetaGroupVersion: metav1.SchemeGroupVersion,
		},
		res: h.NewResource(read.ResourceConfig{
			Kind: kind, Resource: coreV1.WithResource(name), Namespaced: namespaced, New: s.New,
			Codec: c.codecs[name], Cache: c.cache, Table: s.(rest.TableConvertor),
			FieldLabel: func(label, value string) (string, string, error) {
				return scheme.ConvertFieldLabel(kind, label, value)
			},
		}),
	}
}

// put creates or replaces an object and returns its revision.
func (c *cluster) put(t testing.TB, resource string, obj runtime.Object) storage.Revision {
	t.Helper()
	m, err := meta.Accessor(obj)
	if err != nil {
		t.Fatal(err)
	}
	data, err := c.codecs[resource].Encode(obj)
	if err != nil {
		t.Fatal(err)
	}
	key := storage.Key{Resource: resource, Namespace: m.GetNamespace(), Name: m.GetName()}
	op := storage.Op{Key: key, Verb: storage.Create, Data: data}
	if rev := c.revisions[key]; rev > 0 {
		op.Verb, op.Expect = storage.Update, rev
	}
	return c.commit(t, op)
}

func (c *cluster) remove(t testing.TB, resource, namespace, name string) storage.Revision {
	t.Helper()
	key := storage.Key{Resource: resource, Namespace: namespace, Name: name}
	rev := c.commit(t, storage.Op{Key: key, Verb: storage.Delete, Expect: c.revisions[key]})
	delete(c.revisions, key)
	return rev
}

func (c *cluster) commit(t testing.TB, op storage.Op) storage.Revision {
	t.Helper()
	r, err := c.committer.Commit(context.Background(), op, nil)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		t.Fatalf("commit %s: %v", op.Key, err)
	}
	c.revisions[op.Key] = r.Revision
	return r.Revision
}

// handler serves the cluster: from bytes where h can, when h is not nil, else through upstream's handlers. Handled
// tells which way it was in a header that comparisons leave out.
func (c *cluster) handler(h *read.Handler) http.Handler {
	infos := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, err := infos.NewRequestInfo(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s := c.resources[info.Resource]
		if s == nil {
			http.NotFound(w, req)
			return
		}
		ctx := request.WithRequestInfo(audit.WithAuditContext(req.Context()), info)
		req = req.WithContext(request.WithReceivedTimestamp(ctx, time.Now()))
		get := info.Verb == "get"
		if h != nil {
			w.Header().Set(wayHeader, "bytes")
			switch {
			case get && h.Get(w, req, info, s.res), info.Verb == "list" && h.List(w, req, info, s.res), info.Verb == "watch" && h.Watch(w, req, info, s.res):
				return
			}
			w.Header().Del(wayHeader)
		}
		if get {
			handlers.GetResource(s.storage.(rest.Getter), s.scope)(w, req)
			return
		}
		force := strings.Contains(req.URL.Path, "/watch/")
		handlers.ListResource(s.storage.(rest.Lister), s.storage.(rest.Watcher), s.scope, force, 30*time.Minute)(w, req)
	})
}

const wayHeader = "X-Test-Way"

// servers starts both ways on ports of their own.
func (c *cluster) servers(t testing.TB, h *read.Handler) (bytes, oracle *httptest.Server) {
	t.Helper()
	bytes, oracle = httptest.NewServer(c.handler(h)), httptest.NewServer(c.handler(nil))
	t.Cleanup(func() { bytes.CloseClientConnections(); oracle.CloseClientConnections(); bytes.Close(); oracle.Close() })
	return bytes, oracle
}

// putRaw stores bytes as they are.
func (c *cluster) putRaw(t testing.TB, resource, namespace, name string, data []byte) storage.Revision {
	t.Helper()
	key := storage.Key{Resource: resource, Namespace: namespace, Name: name}
	return c.commit(t, storage.Op{Key: key, Verb: storage.Create, Data: data})
}
