package nodemetrics

import (
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/metrics/pkg/apis/metrics/install"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// storage is one resource's.
type storage interface {
	rest.Getter
	rest.Lister
}

// endpoint answers for one resource by upstream's handlers.
type endpoint struct {
	get, list  http.HandlerFunc
	namespaced bool
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return scheme
}

// group is what there is to describe.
func (h *Handler) group() *genericapiserver.APIGroupInfo {
	scheme := newScheme()
	g := genericapiserver.NewDefaultAPIGroupInfo(Group, scheme, metav1.ParameterCodec, serializer.NewCodecFactory(scheme))
	g.VersionedResourcesStorageMap[v1beta1.SchemeGroupVersion.Version] = map[string]rest.Storage{"nodes": nodes{h}, "pods": pods{h}}
	return &g
}

// routes makes the handlers.
func (h *Handler) routes() http.Handler {
	scheme := newScheme()
	codecs := serializer.NewCodecFactory(scheme)
	of := func(resource, kind string, s storage, namespaced bool) endpoint {
		scope := &handlers.RequestScope{
			Namer:      handlers.ContextBasedNaming{Namer: meta.NewAccessor(), ClusterScoped: !namespaced},
			Serializer: codecs, ParameterCodec: metav1.ParameterCodec, Creater: scheme, Convertor: scheme, Defaulter: scheme, Typer: scheme,
			UnsafeConvertor: runtime.UnsafeObjectConvertor(scheme), TableConvertor: s,
			Resource: v1beta1.SchemeGroupVersion.WithResource(resource), Kind: v1beta1.SchemeGroupVersion.WithKind(kind),
			HubGroupVersion:  schema.GroupVersion{Group: Group, Version: runtime.APIVersionInternal},
			MetaGroupVersion: metav1.SchemeGroupVersion,
		}
		return endpoint{
			get: handlers.GetResource(s, scope), list: handlers.ListResource(s, nil, scope, false, time.Minute), namespaced: namespaced,
		}
	}
	endpoints := map[string]endpoint{"nodes": of("nodes", "NodeMetrics", nodes{h}, false), "pods": of("pods", "PodMetrics", pods{h}, true)}
	refuse := func(w http.ResponseWriter, req *http.Request, err error) {
		responsewriters.ErrorNegotiated(err, codecs, v1beta1.SchemeGroupVersion, w, req)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, ok := request.RequestInfoFrom(req.Context())
		if !ok {
			info = &request.RequestInfo{}
		}
		at, known := endpoints[info.Resource]
		what := schema.GroupResource{Group: Group, Resource: info.Resource}
		switch {
		case !known || info.Subresource != "" || info.APIVersion != v1beta1.SchemeGroupVersion.Version || !at.namespaced && info.Namespace != "":
			refuse(w, req, apierrors.NewGenericServerResponse(http.StatusNotFound, req.Method, what, info.Name, "", 0, true))
		case req.Method != http.MethodGet && req.Method != http.MethodHead || info.Verb != "get" && info.Verb != "list":
			refuse(w, req, apierrors.NewMethodNotSupported(what, info.Verb))
		case info.Verb == "get":
			at.get(w, req)
		default:
			at.list(w, req)
		}
	})
}
