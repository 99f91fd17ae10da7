package controlplane

import (
	"net/http"
	"net/http/pprof"
	goruntime "runtime"
	"strconv"

	"github.com/go-chi/chi/v5"
	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"

	"github.com/rowlock-io/rowlock/schema"
)

// version tells which Kubernetes is served, as kube-apiserver does.
func version(w http.ResponseWriter, _ *http.Request) {
	major, minor := strconv.Itoa(schema.Major), strconv.Itoa(schema.Minor)
	responsewriters.WriteRawJSON(http.StatusOK, apiversion.Info{
		Major: major, Minor: minor, EmulationMajor: major, EmulationMinor: minor,
		MinCompatibilityMajor: major, MinCompatibilityMinor: strconv.Itoa(schema.Minor - 1),
		GitVersion: schema.Version, GitTreeState: "archive", GoVersion: goruntime.Version(), Compiler: goruntime.Compiler,
		Platform: goruntime.GOOS + "/" + goruntime.GOARCH,
	}, w)
}

// profiling serves Go's profiles where kube-apiserver has them; authorization guards them like any other path.
func profiling(r chi.Router) {
	r.Handle("/debug/pprof/profile", http.HandlerFunc(pprof.Profile))
	r.Handle("/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol))
	r.Handle("/debug/pprof/trace", http.HandlerFunc(pprof.Trace))
	r.Handle("/debug/pprof", http.RedirectHandler("/debug/pprof/", http.StatusFound))
	r.Handle("/debug/pprof/*", http.HandlerFunc(pprof.Index))
}
