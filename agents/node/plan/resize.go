package plan

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	kubeutil "k8s.io/kubernetes/pkg/kubelet/util"
)

// Resources are those that a container is to have: its own, and the limits of its pod where it has none (KEP-2837).
func Resources(pod *corev1.Pod, c *corev1.Container) corev1.ResourceRequirements {
	r := *c.Resources.DeepCopy()
	r.Limits = kubeutil.GetLimits(&kubeutil.ResourceOpts{PodResources: pod.Spec.Resources, ContainerResources: &c.Resources})
	return r
}

// SameResources compares those that can be changed while a container runs.
func SameResources(a, b corev1.ResourceRequirements) bool {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if change(a.Limits, b.Limits, name) != 0 || change(a.Requests, b.Requests, name) != 0 {
			return false
		}
	}
	return true
}

// PodResized says that the pod is to have something else together than it has.
func PodResized(pod *corev1.Pod, had *corev1.ResourceRequirements) bool {
	var want corev1.ResourceRequirements
	if pod.Spec.Resources != nil {
		want = *pod.Spec.Resources
	}
	return had != nil && !SameResources(want, *had)
}

// resize is one resource of one container that is to change (KEP-1287).
type resize struct {
	action ResizeContainer
	by     int64 // its limit, or else its request; less than nothing: it shrinks
}

// resize decides about the resources of a container that runs. It tells whether the container may go on: its policy may demand
// that it starts again.
func (d *decision) resize(c Container, s *kubecontainer.Status) (keep bool) {
	want := Resources(d.Want, c.Spec)
	had, known := d.Resources[c.Spec.Name]
	if !known { // by a kubelet, say: it was made as it should be
		had = want
	}
	var changed []resize
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceCPU} {
		by := cmp.Or(change(want.Limits, had.Limits, name), change(want.Requests, had.Requests, name))
		if by == 0 {
			continue
		}
		if slices.ContainsFunc(c.Spec.ResizePolicy, func(p corev1.ContainerResizePolicy) bool {
			return p.ResourceName == name && p.RestartPolicy == corev1.RestartContainer
		}) {
			d.restart = true
			return false
		}
		changed = append(changed, resize{ResizeContainer{Container: c, ID: s.ID, Resource: name}, by})
	}
	d.resized = append(d.resized, changed...)
	return true
}

func change(want, had corev1.ResourceList, name corev1.ResourceName) int64 {
	w, h := want[name], had[name]
	return int64(w.Cmp(h))
}

// resizes are in an order in which containers never have more together than the pod does: what shrinks comes first.
func (d *decision) resizes() []Action {
	if len(d.resized) == 0 {
		if d.restart || PodResized(d.Want, d.PodResources) {
			return []Action{ResizePod{}}
		}
		return nil
	}
	slices.SortStableFunc(d.resized, func(a, b resize) int { return cmp.Compare(a.by, b.by) })
	actions := make([]Action, 0, len(d.resized)+1)
	for _, r := range d.resized {
		actions = append(actions, r.action)
	}
	return append(actions, ResizePod{})
}
