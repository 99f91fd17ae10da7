package resources

import (
	"net/http"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/rowlock-io/rowlock/schema/catalogue"
	"github.com/rowlock-io/rowlock/server/resources/write"
)

// endpoint is a resource or subresource with its handlers; each is made at its first use.
type endpoint struct {
	h      *Handler
	res    *catalogue.Resource
	src    *catalogue.Endpoint
	warn   []string // said with every answer: the version is deprecated
	metric metric

	once     sync.Once
	scope    *handlers.RequestScope
	scopeErr error

	mu   sync.Mutex
	made map[route]http.HandlerFunc
}

// route is one way in: a verb at a kind of path.
type route struct {
	verb  string // of package request: GET, LIST, WATCH …
	scope string // "cluster", "namespace" or "resource", as metrics call it
}

func (h *Handler) newEndpoint(res *catalogue.Resource, src *catalogue.Endpoint) *endpoint {
	ep := &endpoint{h: h, res: res, src: src, made: map[route]http.HandlerFunc{}}
	ep.metric, ep.warn = newMetric(res, src)
	return ep
}

// route picks the handler for a request; nil when the method is not allowed there.
func (ep *endpoint) route(method string, info *request.RequestInfo) http.HandlerFunc {
	verb := ep.verb(method, info)
	if verb == "" {
		return nil
	}
	r := route{verb: verb, scope: "cluster"}
	switch {
	case named(info) || verb == request.MethodPost:
		r.scope = "resource"
	case info.Namespace != "":
		r.scope = "namespace"
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	made, ok := ep.made[r]
	if !ok {
		if made = ep.build(r.verb); made != nil {
			made = ep.checked(r.verb, ep.metric.instrument(r, ep.warn, made))
		}
		ep.made[r] = made
	}
	return made
}

// verb names what a method means here, by the paths that upstream installs for a storage; "" when there is no such path.
func (ep *endpoint) verb(method string, info *request.RequestInfo) string {
	if connecter, ok := ep.src.Storage.(rest.Connecter); ok && named(info) {
		for _, m := range connecter.ConnectMethods() {
			if m == method {
				return request.MethodConnect
			}
		}
	}
	everywhere := ep.res.Namespaced && info.Namespace == "" // all namespaces: for reading only
	prefixed := isPrefixed(info)
	if prefixed && method != http.MethodGet {
		return ""
	}
	switch method {
	case http.MethodGet:
		switch {
		case prefixed:
			return request.MethodWatchList
		case info.Verb == "list" || info.Verb == "watch":
			return request.MethodList
		}
		return request.MethodGet
	case http.MethodPost:
		// Subresources are created below a name, resources are not.
		if everywhere || named(info) != (ep.src.Subresource != "") {
			return ""
		}
		return request.MethodPost
	case http.MethodPut, http.MethodPatch:
		if !named(info) {
			return ""
		}
		return method
	case http.MethodDelete:
		if named(info) {
			return request.MethodDelete
		}
		if everywhere {
			return ""
		}
		return request.MethodDeleteCollection
	}
	return ""
}

// connectsBelow tells whether the endpoint passes on the rest of the path to what it connects to.
func (ep *endpoint) connectsBelow() bool {
	c, ok := ep.src.Storage.(rest.Connecter)
	if !ok {
		return false
	}
	_, below, _ := c.NewConnectOptions()
	return below
}

// isPrefixed tells whether the path begins /watch/, upstream's old form of ?watch=true.
func isPrefixed(info *request.RequestInfo) bool { return firstSegment(info) == "watch" }

// firstSegment is what follows the group and version in the path.
func firstSegment(info *request.RequestInfo) string {
	rest := strings.Trim(info.Path, "/")
	above := 2
	if info.APIPrefix == "apis" {
		above = 3
	}
	for range above {
		_, rest, _ = strings.Cut(rest, "/")
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func (ep *endpoint) build(verb string) http.HandlerFunc {
	s := ep.src.Storage
	admit := ep.h.cfg.Admission
	switch verb {
	case request.MethodGet:
		if g, ok := s.(rest.GetterWithOptions); ok {
			return ep.scoped(func(sc *handlers.RequestScope) http.HandlerFunc {
				return handlers.GetResourceWithOptions(g, sc, ep.src.Subresource != "")
			})
		}
		if g, ok := s.(rest.Getter); ok {
			return ep.bytesFirst(readOne, ep.scoped(func(sc *handlers.RequestScope) http.HandlerFunc { return handlers.GetResource(g, sc) }))
		}
	case request.MethodList, request.MethodWatchList:
		l, ok := s.(rest.Lister)
		if !ok {
			return nil
		}
		w, _ := s.(rest.Watcher)
		forced := verb == request.MethodWatchList
		if forced && w == nil {
			return nil
		}
		return ep.bytesFirst(readMany, ep.scoped(func(sc *handlers.RequestScope) http.HandlerFunc {
			return handlers.ListResource(l, w, sc, forced, ep.h.cfg.MinRequestTimeout)
		}))
	case request.MethodPost:
		if c, ok := s.(rest.NamedCreater); ok {
			return ep.written(func(h *write.Handlers) http.HandlerFunc {
				return h.CreateNamed(c, ep.scoped(func(sc *handlers.RequestScope) http.HandlerFunc { return handlers.CreateNamedResource(c, sc, admit) }))
			})
		}
		if c, ok := s.(rest.Creater); ok {
			return ep.written(func(h *write.Handlers) http.HandlerFunc {
				return h.Create(c, ep.scoped(func(sc *handlers.RequestScope) http.HandlerFunc { return handlers.CreateResource(c, sc, admit) }))
			})
		}
	case request.MethodPut:
		if u, ok := s.(rest.Updater); ok {
			return ep.written(func(h *write.Handlers) http.HandlerFunc {
				return h.Update(u, ep.scoped(func(sc *handlers.RequestScope) http.HandlerFunc { return handlers.UpdateResource(u, sc, admit) }))
			})
		}
	case request.MethodPatch:
		if p, ok := s.(rest.Patcher); ok {
			return ep.written(func(h *write.Handlers) http.HandlerFunc {
				return h.Patch(p, ep.scoped(func(sc *handlers.RequestScope) http.HandlerFunc {
					return handlers.PatchResource(p, sc, admit, write.PatchTypes)
				}))
			})
		}
	case request.MethodDelete:
		if d, ok := s.(rest.GracefulDeleter); ok {
			return ep.written(func(h *write.Handlers) http.HandlerFunc {
				return h.Delete(d, ep.scoped(func(sc *handlers.RequestScope) http.HandlerFunc { return handlers.DeleteResource(d, true, sc, admit) }))
			})
		}
	case request.MethodDeleteCollection:
		if d, ok := s.(rest.CollectionDeleter); ok {
			return ep.written(func(h *write.Handlers) http.HandlerFunc {
				return h.DeleteCollection(d, ep.scoped(func(sc *handlers.RequestScope) http.HandlerFunc { return handlers.DeleteCollection(d, true, sc, admit) }))
			})
		}
	case request.MethodConnect:
		if c, ok := s.(rest.Connecter); ok {
			return ep.scoped(func(sc *handlers.RequestScope) http.HandlerFunc {
				return handlers.ConnectResource(c, sc, admit, ep.src.Discovery.Name, ep.src.Subresource != "")
			})
		}
	}
	return nil
}

// scoped makes an upstream handler for each request, as upstream does: some of them wrap what they were given at every
// call, so that one which served twice would grow without end. The scope is made when it is first needed: reads that are
// answered from bytes never do.
func (ep *endpoint) scoped(build func(*handlers.RequestScope) http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if ep.ready(w, req) {
			build(ep.scope)(w, req)
		}
	}
}

// ready makes the scope, or answers that it cannot be made.
func (ep *endpoint) ready(w http.ResponseWriter, req *http.Request) bool {
	ep.once.Do(func() { ep.scope, ep.scopeErr = ep.h.scope(ep.res, ep.src) })
	if ep.scopeErr != nil {
		ep.h.fail(w, req, ep.src.GroupVersionResource.GroupVersion(), apierrors.NewInternalError(ep.scopeErr))
	}
	return ep.scopeErr == nil
}

// written is a handler for writes, made at the first of them.
func (ep *endpoint) written(build func(*write.Handlers) http.HandlerFunc) http.HandlerFunc {
	made := sync.OnceValues(func() (http.HandlerFunc, error) {
		cfg, err := ep.writeConfig()
		if err != nil {
			return nil, err
		}
		return build(write.New(cfg)), nil
	})
	return func(w http.ResponseWriter, req *http.Request) {
		if !ep.ready(w, req) {
			return
		}
		handle, err := made()
		if err != nil {
			ep.h.fail(w, req, ep.src.GroupVersionResource.GroupVersion(), apierrors.NewInternalError(err))
			return
		}
		handle(w, req)
	}
}
