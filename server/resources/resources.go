// Package resources answers API requests for resources: it finds what is served under a path in the catalogue, and hands
// reads of kept bytes to package read, writes to package write, and everything else to upstream's endpoint handlers over the
// registries.
package resources

import (
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/rowlock-io/rowlock/schema/catalogue"
	"github.com/rowlock-io/rowlock/schema/fieldmanager"
	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/server/restful"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// Config is what the handlers of one cluster need.
type Config struct {
	Catalogue     *catalogue.Catalogue
	Admission     admission.Interface
	Authorizer    authorizer.Authorizer // for checks that depend on the body, such as create on update
	FieldManagers *fieldmanager.Factory
	Reader        *read.Handler // answers reads from kept bytes
	Cache         *cache.Cache
	Serializer    runtime.NegotiatedSerializer // of errors

	Traced bool // some requests have spans

	MinRequestTimeout   time.Duration // a watch without a timeout lasts one to two times this
	MaxRequestBodyBytes int64
}

// Handler serves the resources of one cluster. The request's context carries its RequestInfo, user and audit context.
type Handler struct {
	cfg        Config
	namer      runtime.Namer
	equivalent runtime.EquivalentResourceRegistry

	mu     sync.Mutex
	served map[endpointKey]*endpoint
}

type endpointKey struct {
	gvr schema.GroupVersionResource
	sub string
}

// New returns a handler. What one resource needs is built at its first request.
func New(cfg Config, equivalent runtime.EquivalentResourceRegistry) *Handler {
	boundPatches()
	h := &Handler{cfg: cfg, namer: runtime.Namer(meta.NewAccessor()), equivalent: equivalent, served: map[endpointKey]*endpoint{}}
	for _, r := range cfg.Catalogue.Resources() {
		equivalent.RegisterKindFor(r.GroupVersionResource, "", r.Kind)
		for _, sub := range r.Subresources {
			equivalent.RegisterKindFor(r.GroupVersionResource, sub.Subresource, sub.Kind)
		}
	}
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	info, ok := request.RequestInfoFrom(req.Context())
	if !ok || !info.IsResourceRequest {
		h.fail(w, req, schema.GroupVersion{Version: "v1"}, restful.Error(http.StatusNotFound, ""))
		return
	}
	gv := schema.GroupVersion{Group: info.APIGroup, Version: info.APIVersion}
	res := h.cfg.Catalogue.Resource(gv.WithResource(info.Resource))
	if res == nil || firstSegment(info) == "proxy" {
		h.notFound(w, req, gv)
		return
	}
	ep, ok := h.endpoint(res, info.Subresource)
	if !ok || !wellPlaced(res, ep, info) {
		h.notFound(w, req, gv)
		return
	}
	handle := ep.route(req.Method, info)
	if handle == nil {
		h.fail(w, req, gv, restful.Error(http.StatusMethodNotAllowed, ""))
		return
	}
	handle(w, req)
}

// named tells whether the path names one object. RequestInfo.Name alone does not: a list with a field selector on
// metadata.name has it too.
func named(info *request.RequestInfo) bool { return len(info.Parts) > 1 }

// wellPlaced tells whether the path's shape fits the endpoint: a cluster-scoped resource has no namespace in its path,
// one object of a namespaced resource has one, and only connections go on below a subresource.
func wellPlaced(res *catalogue.Resource, ep *endpoint, info *request.RequestInfo) bool {
	if len(info.Parts) > 3 && !ep.connectsBelow() {
		return false
	}
	if !res.Namespaced {
		// The path of a namespace names it twice: as the object and as the scope of authorization.
		return info.Namespace == "" || res.GroupVersionResource.Resource == "namespaces" && res.GroupVersionResource.Group == ""
	}
	return info.Namespace != "" || !named(info)
}

func (h *Handler) notFound(w http.ResponseWriter, req *http.Request, gv schema.GroupVersion) {
	h.fail(w, req, gv, restful.Error(http.StatusNotFound, ""))
}

func (h *Handler) fail(w http.ResponseWriter, req *http.Request, gv schema.GroupVersion, err error) {
	responsewriters.ErrorNegotiated(err, h.cfg.Serializer, gv, w, req)
}

func (h *Handler) endpoint(res *catalogue.Resource, sub string) (*endpoint, bool) {
	src := &res.Endpoint
	if sub != "" {
		if src = res.Subresources[sub]; src == nil {
			return nil, false
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key := endpointKey{src.GroupVersionResource, sub}
	ep := h.served[key]
	if ep == nil {
		ep = h.newEndpoint(res, src)
		h.served[key] = ep
	}
	return ep, true
}
