package serve

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"k8s.io/apiserver/pkg/server/flagz"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/apiserver/pkg/server/statusz"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/metrics/prometheus/slis"
	zpages "k8s.io/component-base/zpages/features"
)

// componentName is what the pages call the agent, as they call a kubelet.
const componentName = "kubelet"

// numberBytes bounds what is put at /debug/flags/v.
const numberBytes = 1 << 10

// shownPaths are those that /statusz names.
var shownPaths = []string{
	"/configz", "/debug/flags/v", "/debug/pprof/", "/flagz", "/healthz", "/logs/", "/metrics", "/metrics/cadvisor", "/metrics/probes", "/metrics/resource",
	"/metrics/slis", "/pods", "/runningpods/", "/stats/summary",
}

// process are the pages about the process. What they need is made when somebody looks.
func (s *Server) process(mux *http.ServeMux) {
	slis.SLIMetricsWithReset{}.Install(mux)
	if s.cfg.SetVerbosity != nil {
		mux.Handle("/debug/flags/v", http.MaxBytesHandler(routes.StringFlagPutHandler(s.verbosity), numberBytes))
	} else {
		mux.HandleFunc("/debug/flags/v", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "flags endpoint is disabled.", http.StatusMethodNotAllowed)
		})
	}
	if s.cfg.Flags != nil && utilfeature.DefaultFeatureGate.Enabled(zpages.ComponentFlagz) {
		mux.Handle(flagz.DefaultFlagzPath, late(func(into *http.ServeMux) { flagz.Install(into, componentName, s.cfg.Flags) }))
	}
	if utilfeature.DefaultFeatureGate.Enabled(zpages.ComponentStatusz) {
		mux.Handle(statusz.DefaultStatuszPath, late(func(into *http.ServeMux) {
			statusz.Install(into, componentName, statusz.NewRegistry(compatibility.DefaultBuildEffectiveVersion(), statusz.WithListedPaths(shownPaths)))
		}))
	}
}

// late installs a handler with its first request.
func late(install func(*http.ServeMux)) http.Handler {
	made := sync.OnceValue(func() http.Handler {
		mux := http.NewServeMux()
		install(mux)
		return mux
	})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { made().ServeHTTP(w, req) })
}

// verbosity takes what is put at /debug/flags/v.
func (s *Server) verbosity(text string) (string, error) {
	level, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return "", err
	}
	if err := s.cfg.SetVerbosity(int(level)); err != nil {
		return "", fmt.Errorf("failed set klog.logging.verbosity %s: %w", text, err)
	}
	return "successfully set klog.logging.verbosity to " + text, nil
}
