package register

import (
	"context"
	"runtime"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Labels that kubelets set beside those of the API.
const (
	labelOS   = "beta.kubernetes.io/os"
	labelArch = "beta.kubernetes.io/arch"
)

// attachAnnotation says that the controller manager attaches volumes, and not the node.
const attachAnnotation = "volumes.kubernetes.io/controller-managed-attach-detach"

// owned are the labels that a node keeps to what it says itself.
var owned = []string{
	corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
	corev1.LabelInstanceTypeStable, corev1.LabelInstanceType, corev1.LabelOSStable, corev1.LabelArchStable, labelOS, labelArch,
}

// initial is the Node of a machine that is new to the cluster.
func (n *Node) initial(ctx context.Context) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: n.cfg.Name,
			Labels: map[string]string{
				corev1.LabelHostname: n.cfg.Hostname, corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH,
				labelOS: runtime.GOOS, labelArch: runtime.GOARCH,
			},
			Annotations: map[string]string{attachAnnotation: "true"},
		},
		Spec: corev1.NodeSpec{ProviderID: n.cfg.ProviderID, Taints: slices.Clone(n.cfg.Taints)},
	}
	for name, value := range n.cfg.Labels {
		node.Labels[name] = value
	}
	n.setStatus(ctx, node)
	return node
}

// reconcile makes a Node that is there already what the new one would be, as far as kubelets do: what somebody else may have written
// stays. It tells whether there was anything to do.
func (n *Node) reconcile(wanted, node *corev1.Node) bool {
	before := node.DeepCopy()
	if node.Labels == nil {
		node.Labels = map[string]string{}
	}
	for _, name := range owned {
		if value, said := wanted.Labels[name]; said {
			node.Labels[name] = value
			if value == "" {
				delete(node.Labels, name)
			}
		}
	}
	if node.Annotations == nil {
		node.Annotations = map[string]string{}
	}
	node.Annotations[attachAnnotation] = wanted.Annotations[attachAnnotation]
	if node.Status.Capacity == nil {
		node.Status.Capacity = wanted.Status.Capacity.DeepCopy()
	}
	if node.Status.Allocatable == nil {
		node.Status.Allocatable = wanted.Status.Allocatable.DeepCopy()
	}
	for name := range node.Status.Capacity {
		if _, there := wanted.Status.Capacity[name]; strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) && !there {
			delete(node.Status.Capacity, name)
			delete(node.Status.Allocatable, name)
		}
		if extended(name) { // devices are not there until somebody says so again
			node.Status.Capacity[name], node.Status.Allocatable[name] = resource.Quantity{}, resource.Quantity{}
		}
	}
	return !equality.Semantic.DeepEqual(before, node)
}

// extended tells whether a resource is one of users' own.
func extended(name corev1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix)
}

// labelled sees to the labels that pods are placed by. It tells whether there was anything to do.
func (n *Node) labelled(node *corev1.Node) (changed bool) {
	for name, value := range map[string]string{corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH} {
		if node.Labels[name] != value {
			if node.Labels == nil {
				node.Labels = map[string]string{}
			}
			node.Labels[name] = value
			changed = true
		}
	}
	return changed
}

// statusChanged compares without the times at which conditions were last confirmed.
func statusChanged(before, after *corev1.NodeStatus) bool {
	return !equality.Semantic.DeepEqual(timeless(before), timeless(after))
}

func timeless(s *corev1.NodeStatus) *corev1.NodeStatus {
	s = s.DeepCopy()
	for i := range s.Conditions {
		s.Conditions[i].LastHeartbeatTime = metav1.Time{}
	}
	slices.SortStableFunc(s.Conditions, func(a, b corev1.NodeCondition) int { return strings.Compare(string(a.Type), string(b.Type)) })
	return s
}
