package node

import (
	"k8s.io/apimachinery/pkg/util/version"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	declared "k8s.io/component-helpers/nodedeclaredfeatures"
	"k8s.io/kubernetes/pkg/features"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
)

// gates are the process's, as upstream's framework asks for them.
type gates struct{ featuregate.FeatureGate }

// Enabled implements declared.FeatureGate.
func (g gates) Enabled(name string) bool { return g.FeatureGate.Enabled(featuregate.Feature(name)) }

// makeFeatures finds what the node declares of features that pods may need (KEP-5328): the scheduler puts those pods on no other node, and the
// server refuses changes of pods that need others. What there is upstream the agent does; the gates say which of it is on.
func (a *Agent) makeFeatures() error {
	if !utilfeature.DefaultFeatureGate.Enabled(features.NodeDeclaredFeatures) {
		return nil
	}
	v, err := version.Parse(a.cfg.Version)
	if err != nil {
		return err
	}
	a.declares = declared.DefaultFramework.DiscoverNodeFeatures(&declared.NodeConfiguration{
		FeatureGates: gates{utilfeature.DefaultFeatureGate}, Version: v,
		RuntimeFeatures: declared.RuntimeFeatures{UserNamespacesHostNetwork: a.runtime.Features().UserNamespacesHostNetwork},
	})
	a.undeclared = lifecycle.NewDeclaredFeaturesAdmitHandler(declared.DefaultFramework, declared.DefaultFramework.MustMapSorted(a.declares), v)
	return nil
}
