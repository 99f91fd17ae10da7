package controlplane

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
	"k8s.io/apiserver/pkg/server/flagz"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/apiserver/pkg/server/statusz"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/zpages/features"
)

// Process is what the operator's cluster tells of the process, and lets its administrators change. Everything may be nil.
type Process struct {
	Flags        flagz.Reader          // shown at /flagz
	SetVerbosity func(level int) error // of the log, at /debug/flags/v
}

// componentName is what /flagz and /statusz call the server, as kube-apiserver does.
const componentName = "apiserver"

// install puts what shows the process. Paths are those that /statusz lists.
func (p Process) install(r chi.Router, paths []string) []string {
	var added []string
	if p.SetVerbosity != nil {
		m := mux.NewPathRecorderMux("flags")
		routes.DebugFlags{}.Install(m, "v", routes.StringFlagPutHandler(p.verbosity))
		r.Handle("/debug/flags", m)
		r.Handle("/debug/flags/*", m)
	}
	if p.Flags != nil && utilfeature.DefaultFeatureGate.Enabled(features.ComponentFlagz) {
		flagz.Install(r, componentName, p.Flags)
		added = append(added, flagz.DefaultFlagzPath)
	}
	if utilfeature.DefaultFeatureGate.Enabled(features.ComponentStatusz) {
		statusz.Install(r, componentName, statusz.NewRegistry(compatibility.DefaultBuildEffectiveVersion(), statusz.WithListedPaths(append(added, paths...))))
		added = append(added, statusz.DefaultStatuszPath)
	}
	return added
}

// verbosity takes what is put at /debug/flags/v.
func (p Process) verbosity(text string) (string, error) {
	level, err := strconv.Atoi(strings.TrimSpace(text))
	if err == nil {
		err = p.SetVerbosity(level)
	}
	if err != nil {
		return "", fmt.Errorf("failed set klog.logging.verbosity %s: %w", text, err)
	}
	return fmt.Sprintf("successfully set klog.logging.verbosity to %s", text), nil
}
