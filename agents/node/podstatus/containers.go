package podstatus

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

// Reasons that a container waits or ended which the runtime does not know of.
const (
	containerCreating = "ContainerCreating"
	podInitializing   = "PodInitializing"
	restartingAll     = "RestartingAllContainers"
)

// killed is the exit code of a container whose end nobody saw.
const killed = 137

// containers are the statuses of all containers of one kind: init containers as the pod has them, others by name.
func (p *Pod) containers(specs []corev1.Container, before []corev1.ContainerStatus, kind podutil.ContainerType, restarting bool) []corev1.ContainerStatus {
	statuses := make([]corev1.ContainerStatus, 0, len(specs))
	for i := range specs {
		c := container{Pod: p, spec: &specs[i], kind: kind, restarting: restarting}
		if j := slices.IndexFunc(before, func(s corev1.ContainerStatus) bool { return s.Name == specs[i].Name }); j >= 0 {
			c.old = &before[j]
		}
		for _, s := range p.Have.ContainerStatuses {
			if s.Name == c.spec.Name {
				c.attempts = append(c.attempts, s)
			}
		}
		slices.SortStableFunc(c.attempts, func(a, b *kubecontainer.Status) int { return b.CreatedAt.Compare(a.CreatedAt) })
		statuses = append(statuses, c.status())
	}
	if kind != podutil.InitContainers {
		slices.SortFunc(statuses, func(a, b corev1.ContainerStatus) int { return cmp.Compare(a.Name, b.Name) })
	}
	return statuses
}

// container is one whose status is asked for.
type container struct {
	*Pod
	spec       *corev1.Container
	kind       podutil.ContainerType
	old        *corev1.ContainerStatus // nil: nothing was reported
	attempts   []*kubecontainer.Status // the newest first
	restarting bool                    // all containers are made anew
}

func (c *container) status() corev1.ContainerStatus {
	var s corev1.ContainerStatus
	if len(c.attempts) == 0 {
		s = c.unseen()
	} else {
		s = c.seen(c.attempts[0])
		if len(c.attempts) > 1 {
			s.LastTerminationState = c.seen(c.attempts[1]).State
		}
	}
	if c.completed(&s) {
		return s
	}
	if waiting, ok := c.Waiting[c.spec.Name]; ok && c.restarts() {
		if s.State.Terminated != nil {
			s.LastTerminationState = s.State
		}
		s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: waiting.Reason, Message: waiting.Message}}
	}
	return s
}

// restarts: it does not run, and shall.
func (c *container) restarts() bool {
	if c.Pod.Pod.DeletionTimestamp != nil {
		return false
	}
	if len(c.attempts) == 0 {
		return true
	}
	switch s := c.attempts[0]; s.State {
	case kubecontainer.ContainerStateRunning:
		return false
	case kubecontainer.ContainerStateExited:
		return podutil.ContainerShouldRestart(*c.spec, c.Pod.Pod.Spec, int32(s.ExitCode))
	default:
		return true
	}
}

// completed tells whether an init container is done, also when the runtime has forgotten it.
func (c *container) completed(s *corev1.ContainerStatus) bool {
	if c.kind != podutil.InitContainers {
		return false
	}
	if len(c.attempts) > 0 {
		return c.attempts[0].State == kubecontainer.ContainerStateExited && c.attempts[0].ExitCode == 0
	}
	if podutil.IsRestartableInitContainer(c.spec) || s.State.Waiting == nil || !c.anyContainer() {
		return false
	}
	s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason:  "Completed",
		Message: "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally",
	}}
	return true
}

// anyContainer: one that is no init container was made.
func (p *Pod) anyContainer() bool {
	for i := range p.Pod.Spec.Containers {
		s := p.Have.FindContainerStatusByName(p.Pod.Spec.Containers[i].Name)
		if s != nil && s.State != kubecontainer.ContainerStateUnknown {
			return true
		}
	}
	return false
}

// unseen is the status of a container that the runtime does not have: not yet, or no longer.
func (c *container) unseen() corev1.ContainerStatus {
	reason := containerCreating
	if len(c.Pod.Pod.Spec.InitContainers) > 0 {
		reason = podInitializing
	}
	s := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, VolumeMounts: c.mounts(),
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}},
	}
	if c.old == nil {
		return s
	}
	if c.old.State.Terminated != nil {
		s = *c.old
	} else {
		s.RestartCount, s.LastTerminationState = c.old.RestartCount, c.old.LastTerminationState
	}
	switch {
	case c.restarting && c.old.State.Waiting == nil:
		const message = "The container is removed because RestartAllContainers in place"
		s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: restartingAll, Message: message}}
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: restartingAll, Message: message, ExitCode: killed}
		s.RestartCount++
	case c.old.State.Running != nil && s.LastTerminationState.Terminated == nil: // or the pod would be pending again
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
			Reason: kubecontainer.ContainerReasonStatusUnknown, ExitCode: killed,
			Message: "The container could not be located when the pod was deleted.  The container used to be Running",
		}
		if c.Pod.Pod.DeletionTimestamp == nil {
			s.RestartCount++
		}
	}
	return s
}

// seen is the status that one attempt of the container has.
func (c *container) seen(have *kubecontainer.Status) corev1.ContainerStatus {
	id := have.ID.String()
	s := corev1.ContainerStatus{
		Name: have.Name, RestartCount: int32(have.RestartCount), Image: have.Image, ImageID: have.ImageRef, ContainerID: id,
		Resources: c.resources(have), AllocatedResources: c.spec.Resources.Requests, User: user(have.User),
	}
	if c.kind == podutil.EphemeralContainers {
		s.Resources, s.AllocatedResources = nil, nil
	}
	if c.old == nil {
		s.VolumeMounts = c.mounts()
	} else {
		s.VolumeMounts = c.old.VolumeMounts // they do not change
		s.RestartCount = max(s.RestartCount, c.old.RestartCount)
		if c.old.ContainerID != id && c.old.State.Terminated != nil { // the runtime no longer has it when all were made anew
			s.LastTerminationState.Terminated = c.old.State.Terminated
		} else {
			s.LastTerminationState.Terminated = c.old.LastTerminationState.Terminated
		}
	}
	switch {
	case have.State == kubecontainer.ContainerStateRunning:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(have.StartedAt)}
		if c.old != nil {
			if c.old.State.Terminated != nil && c.old.RestartCount >= int32(have.RestartCount) {
				s.RestartCount = c.old.RestartCount + 1
			}
			s.Started = c.old.Started
		}
	case have.State == kubecontainer.ContainerStateExited:
		s.State.Terminated = &corev1.ContainerStateTerminated{
			ExitCode: int32(have.ExitCode), Reason: have.Reason, Message: have.Message, ContainerID: id,
			StartedAt: metav1.NewTime(have.StartedAt), FinishedAt: metav1.NewTime(have.FinishedAt),
		}
	case have.State == kubecontainer.ContainerStateUnknown && c.old != nil && c.old.State.Running != nil:
		reason := kubecontainer.ContainerReasonStatusUnknown
		if c.restarting {
			reason = restartingAll
		}
		s.State.Terminated = &corev1.ContainerStateTerminated{
			Reason: reason, Message: "The container could not be located when the pod was terminated", ExitCode: killed,
		}
		s.RestartCount = c.old.RestartCount + 1
	default: // created, or nobody knows
		s.State.Waiting = &corev1.ContainerStateWaiting{}
	}
	return s
}

func user(u *kubecontainer.ContainerUser) *corev1.ContainerUser {
	if u == nil {
		return nil
	}
	if u.Linux == nil {
		return &corev1.ContainerUser{}
	}
	return &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{
		UID: u.Linux.UID, GID: u.Linux.GID, SupplementalGroups: u.Linux.SupplementalGroups,
	}}
}

// mounts tell which volumes are where, and how read-only.
func (c *container) mounts() []corev1.VolumeMountStatus {
	var mounts []corev1.VolumeMountStatus
	for _, m := range c.spec.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if r := m.RecursiveReadOnly; r != nil && c.RecursiveReadOnly &&
				(*r == corev1.RecursiveReadOnlyEnabled || *r == corev1.RecursiveReadOnlyIfPossible) {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		mounts = append(mounts, s)
	}
	return mounts
}
