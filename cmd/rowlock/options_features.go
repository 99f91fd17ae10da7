package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"github.com/rowlock-io/rowlock/schema/catalogue"
)

// featureOptions say what of Kubernetes is on. The flags are kube-apiserver's.
type featureOptions struct {
	gates    []string
	versions genericoptions.APIEnablementOptions
	figures  bool
}

func (o *featureOptions) addFlags(fs *pflag.FlagSet) {
	o.versions = *genericoptions.NewAPIEnablementOptions()
	fs.StringSliceVar(&o.gates, "feature-gates", nil, "features of Kubernetes that are switched on or off, for all clusters of the process: Name=true|false, also AllAlpha and AllBeta. What is about etcd and the watch cache has no effect")
	fs.Var(&o.versions.RuntimeConfig, "runtime-config", "built-in APIs that are switched on or off: GROUP/VERSION=true|false or GROUP/VERSION/RESOURCE=true|false, v1 being the core group, api/all, api/ga, api/beta and api/alpha; the more specific wins")
	fs.BoolVar(&o.figures, "node-metrics", true, "serve metrics.k8s.io, for kubectl top and autoscalers, from what nodes say of themselves, unless an APIService sends it elsewhere")
}

// flag is the text of --feature-gates. kube-apiserver has the name of its component before a gate, or not.
func (o *featureOptions) flag() (string, error) {
	gates := make([]string, 0, len(o.gates))
	for _, gate := range o.gates {
		component, rest, named := strings.Cut(gate, ":")
		switch {
		case !named:
			rest = gate
		case component != "kube":
			return "", fmt.Errorf("component not registered: %s", component)
		}
		gates = append(gates, rest)
	}
	return strings.Join(gates, ","), nil
}

func (o *featureOptions) validate() error {
	gates, err := o.flag()
	if err == nil {
		err = utilfeature.DefaultMutableFeatureGate.DeepCopy().Set(gates)
	}
	if err != nil {
		err = fmt.Errorf("--feature-gates: %w", err)
	}
	_, wrong := catalogue.NewVersions(o.versions.RuntimeConfig)
	if wrong != nil {
		wrong = fmt.Errorf("--runtime-config: %w", wrong)
	}
	return errors.Join(err, wrong)
}

// apply switches features, which the process has once, before anything asks for one.
func (o *featureOptions) apply() (*catalogue.Versions, error) {
	gates, err := o.flag()
	if err == nil {
		err = utilfeature.DefaultMutableFeatureGate.Set(gates)
	}
	if err != nil {
		return nil, fmt.Errorf("--feature-gates: %w", err)
	}
	return catalogue.NewVersions(o.versions.RuntimeConfig)
}
