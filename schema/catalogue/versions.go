package catalogue

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/server/resourceconfig"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/component-base/cli/flag"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane"
)

// Versions are the groups, versions and resources that are switched on. nil: those that kube-apiserver serves by default.
type Versions struct{ overrides flag.ConfigurationMap }

// NewVersions reads the settings of --runtime-config, in kube-apiserver's words where they are wrong.
func NewVersions(settings map[string]string) (*Versions, error) {
	v := &Versions{overrides: flag.ConfigurationMap{}}
	for key, value := range settings {
		core, isCore := strings.CutPrefix(strings.TrimPrefix(key, "api/"), "v1")
		switch {
		case isCore && (core == "" || core[0] == '/'):
			v.overrides["/v1"] = value // as kube-apiserver reads all that begins so
		case key != "api/legacy":
			v.overrides[key] = value
		}
	}
	if len(v.overrides) == 1 && v.overrides[resourceconfig.APIAll] == "false" {
		return nil, fmt.Errorf("invalid runtime-config with only %s=false", resourceconfig.APIAll)
	}
	named, err := resourceconfig.ParseGroupVersions(v.overrides)
	if err != nil {
		return nil, err
	}
	var unknown []string
	for _, gv := range named {
		if !slices.ContainsFunc([]*runtime.Scheme{legacyscheme.Scheme, schemeOf("apiextensions.k8s.io"), schemeOf("apiregistration.k8s.io")}, func(s *runtime.Scheme) bool {
			return s.IsGroupRegistered(gv.Group)
		}) {
			unknown = append(unknown, gv.String())
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, errors.New("unknown api groups " + strings.Join(unknown, ","))
	}
	merged, err := v.merge()
	if err != nil {
		return nil, err
	}
	for gv, on := range controlplane.DefaultAPIResourceConfigSource().GroupVersionConfigs {
		if on && !merged.GroupVersionConfigs[gv] {
			return nil, fmt.Errorf("%s cannot be switched off: the server's own parts use the stable versions", gv)
		}
	}
	for gvr, on := range merged.ExplicitResourceConfigs {
		if stable := controlplane.DefaultAPIResourceConfigSource().GroupVersionConfigs[gvr.GroupVersion()]; stable && !on {
			return nil, fmt.Errorf("%s cannot be switched off: the server's own parts use the stable versions", gvr)
		}
	}
	return v, nil
}

// merge is made anew for each catalogue: upstream's registries may keep it.
func (v *Versions) merge() (*serverstorage.ResourceConfig, error) {
	config := controlplane.DefaultAPIResourceConfigSource()
	if v == nil || len(v.overrides) == 0 {
		return config, nil
	}
	return resourceconfig.MergeAPIResourceConfigs(config, maps.Clone(v.overrides), legacyscheme.Scheme)
}

// enabled is what NewVersions has found to be right.
func (v *Versions) enabled() *serverstorage.ResourceConfig {
	config, err := v.merge()
	if err != nil {
		panic(err)
	}
	return config
}
