package podstatus

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
)

// phase sums up the containers' statuses. stopped: none runs any more, nor will; initialized: one that is no init container was
// started in this sandbox.
func phase(pod *corev1.Pod, s *corev1.PodStatus, stopped, initialized bool) corev1.PodPhase {
	var init tally
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if podutil.IsRestartableInitContainer(c) {
			init.sidecar(find(s.InitContainerStatuses, c.Name))
		} else {
			init.once(pod, c, find(s.InitContainerStatuses, c.Name))
		}
	}
	main := tally{running: init.running, waiting: init.waiting, unknown: init.unknown}
	for i := range pod.Spec.Containers {
		main.container(pod, &pod.Spec.Containers[i], find(s.ContainerStatuses, pod.Spec.Containers[i].Name))
	}
	switch {
	case init.failed:
		return corev1.PodFailed
	case init.pending, init.starting && !initialized, main.waiting > 0:
		return corev1.PodPending
	case main.running > 0 && main.unknown == 0:
		return corev1.PodRunning
	case main.running > 0 || main.stopped == 0 || main.unknown > 0:
		return corev1.PodPending
	case main.restarting > 0 && (!stopped || kubetypes.IsStaticPod(pod)):
		return corev1.PodRunning
	case main.stopped == main.succeeded:
		return corev1.PodSucceeded
	default:
		return corev1.PodFailed
	}
}

// tally counts containers by what they do.
type tally struct {
	failed   bool // an init container, for good
	pending  bool // an init container is not done
	starting bool // a sidecar has not come up yet

	running, waiting, unknown      int
	stopped, restarting, succeeded int // stopped are all that have ended, those that will be started again included
}

func find(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	if i := slices.IndexFunc(statuses, func(s corev1.ContainerStatus) bool { return s.Name == name }); i >= 0 {
		return &statuses[i]
	}
	return &corev1.ContainerStatus{}
}

// ended is how a container ended that does not run, and whether it starts again.
func ended(pod *corev1.Pod, c *corev1.Container, s *corev1.ContainerStatus) (end *corev1.ContainerStateTerminated, again bool) {
	end = s.State.Terminated
	if end == nil && s.State.Waiting != nil {
		end = s.LastTerminationState.Terminated
	}
	if end == nil {
		return nil, false
	}
	return end, podutil.ContainerShouldRestart(*c, pod.Spec, end.ExitCode) || end.Reason == restartingAll
}

func (t *tally) once(pod *corev1.Pod, c *corev1.Container, s *corev1.ContainerStatus) {
	end, again := ended(pod, c, s)
	switch {
	case end == nil:
		t.pending = true
	case end.ExitCode != 0 && !again:
		t.failed = true
	}
}

func (t *tally) sidecar(s *corev1.ContainerStatus) {
	switch {
	case s.State.Running != nil:
		t.running++
		t.starting = t.starting || s.Started == nil || !*s.Started
	case s.State.Terminated != nil, s.State.Waiting != nil && s.LastTerminationState.Terminated != nil:
	case s.State.Waiting != nil:
		t.waiting++
		t.starting = true
	default:
		t.unknown++
		t.starting = t.starting || s.Name != ""
	}
}

func (t *tally) container(pod *corev1.Pod, c *corev1.Container, s *corev1.ContainerStatus) {
	end, again := ended(pod, c, s)
	switch {
	case s.State.Running != nil:
		t.running++
	case end != nil:
		t.stopped++
		if again {
			t.restarting++
		}
		if end.ExitCode == 0 && s.State.Terminated != nil {
			t.succeeded++
		}
	case s.State.Waiting != nil:
		t.waiting++
	default:
		t.unknown++
	}
}
