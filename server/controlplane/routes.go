package controlplane

import (
	"context"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apidiscovery "k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/component-base/metrics/prometheus/slis"

	"github.com/rowlock-io/rowlock/schema/openapi"
	"github.com/rowlock-io/rowlock/server/discovery"
	"github.com/rowlock-io/rowlock/server/resources"
	"github.com/rowlock-io/rowlock/tunnel"
)

// routes is the map of one cluster's paths.
func (c *ControlPlane) routes(api *resources.Handler, documents *discovery.Documents, described *openapi.Service) http.Handler {
	r := chi.NewRouter()
	paths := c.checks.Install(r)
	legacy, named := newWebServices(c, api, documents)
	r.Handle("/api", legacy)
	r.Handle("/api/*", legacy)
	groups := c.withFigures(documents.Root())
	r.Handle("/apis", groups)
	r.Handle("/apis/", groups)
	r.Handle("/apis/*", named)
	r.Handle("/openapi/v2", c.withFigures(http.HandlerFunc(described.ServeV2)))
	r.Handle("/openapi/v3", c.withFigures(http.HandlerFunc(described.ServeV3Index)))
	r.Handle("/openapi/v3/*", c.withFigures(http.HandlerFunc(described.ServeV3)))
	ofVersion := document([]string{runtime.ContentTypeJSON}, http.HandlerFunc(version))
	r.Handle("/version", ofVersion)
	r.Handle("/version/", ofVersion)
	r.Handle(tunnel.Prefix+"*", c.afterLoad(c.tunnels))
	if c.cfg.Operator {
		r.Handle("/metrics", c.measurements())
		slis.SLIMetricsWithReset{}.Install(r)
		profiling(r)
		paths = append(paths, "/metrics", "/metrics/slis")
	}
	c.installDebug(r)
	paths = append(paths, c.access.install(r)...)
	paths = append(paths, "/api", "/apis", "/apis/", "/openapi/v2", "/openapi/v3", "/openapi/v3/", "/version")
	for _, info := range c.catalogue.Groups() {
		for _, gv := range info.PrioritizedVersions {
			if gv.Group == "" && c.catalogue.Serves(gv) {
				paths = append(paths, "/api/"+gv.Version)
			}
		}
	}
	if c.cfg.Operator {
		paths = append(paths, c.cfg.Process.install(r, paths)...)
	}
	root := index(func() []string { return append(documents.Paths(), paths...) })
	r.Handle("/", root)
	r.Handle("/index.html", root)
	r.NotFound(notFound)
	return anyMethod(r)
}

// anyMethod routes requests by their path alone, as kube-apiserver does, also those whose methods chi does not know: what
// a method means is for the handler to say.
func anyMethod(r chi.Router) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.Method {
		case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions:
		default:
			route := chi.NewRouteContext()
			route.Routes, route.RouteMethod = r, http.MethodGet
			req = req.WithContext(context.WithValue(req.Context(), chi.RouteCtxKey, route))
		}
		r.ServeHTTP(w, req)
	})
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "404 page not found", http.StatusNotFound)
}

// afterLoad holds requests for resources until the cache knows the present: an object that is not loaded yet is not one
// that does not exist.
func (c *ControlPlane) afterLoad(next http.Handler) http.Handler {
	ready := c.backend.Cache.Ready()
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		select {
		case <-ready:
		default:
			select {
			case <-ready:
			case <-req.Context().Done():
				http.Error(w, "the server is loading", http.StatusServiceUnavailable)
				return
			}
		}
		next.ServeHTTP(w, req)
	})
}

// ending implements request.ServerShutdownSignal: upstream's watches, which serve what is not served from bytes, end with it.
// Each of them would hold up the stop of the server.
type ending struct{ done <-chan struct{} }

func (e ending) ShuttingDown() <-chan struct{} { return e.done }

// index lists the paths, for whoever asks for the root.
func index(paths func() []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		all := paths()
		slices.Sort(all)
		responsewriters.WriteRawJSON(http.StatusOK, metav1.RootPaths{Paths: slices.Compact(all)}, w)
	}
}

// addresses tells clients that ask /api where the server is.
func (c *ControlPlane) addresses() apidiscovery.Addresses {
	return apidiscovery.DefaultAddresses{DefaultAddress: c.externalAddress()}
}
