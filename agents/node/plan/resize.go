package plan

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

// resize is one resource of one container that is to change (KEP-1287).
type resize struct {
	action ResizeContainer
	by     int64 // its limit, or else its request; less than nothing: it shrinks
}

// resize decides about the resources of a container that runs. It tells whether the container may go on: its policy may demand
// that it starts again.
func (d *decision) resize(c Container, s *kubecontainer.Status) (keep bool) {
	had, known := d.Resources[c.Spec.Name]
	if !known { // from before the agent was started: it was made as it should be, or is changed once more
		had = c.Spec.Resources
	}
	var changed []resize
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceCPU} {
		by := cmp.Or(change(c.Spec.Resources.Limits, had.Limits, name), change(c.Spec.Resources.Requests, had.Requests, name))
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
		if d.restart {
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
