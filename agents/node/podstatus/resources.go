package podstatus

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

// The smallest amounts that a cgroup can have. What is asked for below them is reported as asked for, and not as it became.
const (
	leastCPULimit   = 10 // m
	leastCPURequest = 2  // m, of shares
)

// resources are those that a container runs with, or would.
func (c *container) resources(have *kubecontainer.Status) *corev1.ResourceRequirements {
	r := c.spec.Resources.DeepCopy()
	if have.State != kubecontainer.ContainerStateRunning {
		return r
	}
	var old corev1.ResourceRequirements // of the same one
	if c.old != nil && c.old.Resources != nil && c.old.State.Running != nil && c.old.ContainerID == have.ID.String() {
		old = *c.old.Resources
	}
	actual := have.Resources
	if actual == nil {
		actual = &kubecontainer.ContainerResources{}
	}
	report(r.Limits, old.Limits, corev1.ResourceCPU, actual.CPULimit, leastCPULimit)
	report(r.Limits, old.Limits, corev1.ResourceMemory, actual.MemoryLimit, 0)
	report(r.Requests, old.Requests, corev1.ResourceCPU, actual.CPURequest, leastCPURequest)
	report(r.Requests, old.Requests, corev1.ResourceMemory, actual.MemoryRequest, 0)
	return r
}

// report sets one amount to what is, or to what was reported before where that is not known.
func report(list, old corev1.ResourceList, name corev1.ResourceName, actual *resource.Quantity, least int64) {
	switch {
	case list == nil:
	case actual == nil:
		if q, ok := old[name]; ok {
			list[name] = q.DeepCopy()
		}
	case least == 0 || actual.MilliValue() > least || list.Name(name, resource.DecimalSI).MilliValue() > least:
		list[name] = actual.DeepCopy()
	}
}

// resources are those that the pod has together (KEP-5419): while it runs as its cgroup says, and else as it was allotted them.
func (p *Pod) resources() *corev1.ResourceRequirements {
	r := p.Pod.Spec.Resources.DeepCopy()
	if r == nil {
		r = &corev1.ResourceRequirements{}
	}
	all := resourcehelper.PodRequests(p.Pod, resourcehelper.PodResourcesOptions{})
	if p.Pod.Status.Phase != corev1.PodRunning {
		r.Requests, r.Limits = all, resourcehelper.PodLimits(p.Pod, resourcehelper.PodResourcesOptions{})
		return r
	}
	if r.Requests == nil {
		r.Requests = corev1.ResourceList{}
	}
	if r.Limits == nil {
		r.Limits = corev1.ResourceList{}
	}
	var old corev1.ResourceRequirements
	if p.Old.Phase == corev1.PodRunning && p.Old.Resources != nil {
		old = *p.Old.Resources
	}
	var request, limit, memory *resource.Quantity
	if c := p.Cgroup; c != nil {
		if c.CPUShares != nil {
			request = cm.CPURequestsFromConfig(c)
		}
		if c.CPUQuota != nil && c.CPUPeriod != nil {
			limit = cm.CPULimitsFromConfig(c)
		}
		if c.Memory != nil {
			memory = cm.MemoryLimitsFromConfig(c)
		}
	}
	report(r.Requests, old.Requests, corev1.ResourceCPU, request, leastCPURequest)
	if _, ok := r.Requests[corev1.ResourceMemory]; !ok {
		if q, ok := all[corev1.ResourceMemory]; ok {
			r.Requests[corev1.ResourceMemory] = q
		}
	}
	report(r.Limits, old.Limits, corev1.ResourceCPU, limit, leastCPULimit)
	report(r.Limits, old.Limits, corev1.ResourceMemory, memory, 0)
	return r
}
