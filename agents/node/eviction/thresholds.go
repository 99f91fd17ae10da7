package eviction

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	upstream "k8s.io/kubernetes/pkg/kubelet/eviction"
	"k8s.io/kubernetes/pkg/kubelet/eviction/api"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
)

// What pods are evicted for beside memory and ephemeral storage; only messages name them.
const (
	inodes corev1.ResourceName = "inodes"
	pids   corev1.ResourceName = "pids"
)

// signal is what is known of something that can be observed.
type signal struct {
	name      api.Signal
	condition corev1.NodeConditionType
	resource  corev1.ResourceName
}

// signals are all that there are, in the order in which they are acted upon.
var signals = []signal{
	{api.SignalMemoryAvailable, corev1.NodeMemoryPressure, corev1.ResourceMemory},
	{api.SignalAllocatableMemoryAvailable, corev1.NodeMemoryPressure, corev1.ResourceMemory},
	{api.SignalNodeFsAvailable, corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage},
	{api.SignalNodeFsInodesFree, corev1.NodeDiskPressure, inodes},
	{api.SignalImageFsAvailable, corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage},
	{api.SignalImageFsInodesFree, corev1.NodeDiskPressure, inodes},
	{api.SignalContainerFsAvailable, corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage},
	{api.SignalContainerFsInodesFree, corev1.NodeDiskPressure, inodes},
	{api.SignalPIDAvailable, corev1.NodePIDPressure, pids},
}

func place(name api.Signal) int {
	return slices.IndexFunc(signals, func(s signal) bool { return s.name == name })
}

// about is what is known of a threshold's signal; Parse lets no others through.
func about(t *api.Threshold) signal { return signals[place(t.Signal)] }

// hard thresholds are acted upon at once.
func hard(t *api.Threshold) bool { return t.GracePeriod == 0 }

// Parse reads thresholds as the kubelet's flags have them. together: pods have a cgroup together, and what it leaves them of memory is
// looked at as what the machine leaves.
func Parse(hard, soft, grace, reclaim map[string]string, together bool) ([]api.Threshold, error) {
	var enforced []string
	if together {
		enforced = []string{kubetypes.NodeAllocatableEnforcementKey}
	}
	all, err := upstream.ParseThresholdConfig(enforced, hard, soft, grace, reclaim)
	if err != nil {
		return nil, err
	}
	order(all)
	return all, nil
}

// order puts first what is acted upon first: memory, and then hard thresholds before soft ones. Upstream leaves the rest to chance.
func order(all []api.Threshold) {
	key := func(t *api.Threshold) int {
		n := place(t.Signal)
		if about(t).resource != corev1.ResourceMemory {
			n += 2 * len(signals)
		}
		if !hard(t) {
			n += len(signals)
		}
		return n
	}
	slices.SortStableFunc(all, func(a, b api.Threshold) int { return cmp.Compare(key(&a), key(&b)) })
}

// Reserved is what pods may not have because hard thresholds keep it free.
func Reserved(thresholds []api.Threshold, capacity corev1.ResourceList) corev1.ResourceList {
	kept := corev1.ResourceList{}
	for i := range thresholds {
		t := &thresholds[i]
		var name corev1.ResourceName
		switch t.Signal {
		case api.SignalMemoryAvailable:
			name = corev1.ResourceMemory
		case api.SignalNodeFsAvailable:
			name = corev1.ResourceEphemeralStorage
		}
		if all, there := capacity[name]; there && hard(t) {
			kept[name] = *api.GetThresholdQuantity(t.Value, &all)
		}
	}
	return kept
}

// Layout says which file systems are not the one of the agent's directory.
type Layout struct {
	// Images: images, or what containers write, are on another one.
	Images bool
	// Split: images are not where containers write.
	Split bool
}

// on are the thresholds of a node with this layout: what containers write is looked at as the file system that it is on.
func (l Layout) on(thresholds []api.Threshold) (all []api.Threshold, ignored error) {
	all, ignored = upstream.UpdateContainerFsThresholds(slices.Clone(thresholds), l.Images, l.Split)
	all = slices.DeleteFunc(all, func(t api.Threshold) bool { return t.Operator == "" }) // of what has no threshold
	order(all)
	return all, ignored
}
