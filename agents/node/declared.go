package node

import (
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	"k8s.io/component-helpers/nodedeclaredfeatures"
	_ "k8s.io/kubernetes/pkg/features" // what is on
)

// declared are the features that pods are only bound to a node for, or changed on it, when the node says that it has them (KEP-5328).
func declared() []string {
	return nodedeclaredfeatures.DefaultFramework.DiscoverNodeFeatures(&nodedeclaredfeatures.NodeConfiguration{FeatureGates: gates{}})
}

// gates tell what is on.
type gates struct{}

// Enabled tells it of a name.
func (gates) Enabled(name string) bool {
	return utilfeature.DefaultFeatureGate.Enabled(featuregate.Feature(name))
}
