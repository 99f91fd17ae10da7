// Package plan decides what a node has to do for one pod, and does nothing itself: what is wanted, what the runtime reports, what
// the probes found and the clock go in, actions come out. Whoever does them asks again when something has changed. The rules are
// those of the kubelet of Kubernetes 1.36, so that a pod fares on both the same.
package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
)

// Pod is what is known of a pod that is to run.
type Pod struct {
	// Want is the pod as it was admitted to the node.
	Want *corev1.Pod
	// Have is what the runtime reports: sandboxes and containers of all attempts, the newest first.
	Have *kubecontainer.PodStatus
	// Probes are what liveness and startup probes found, by the container's id.
	Probes map[string]Probes
	// Resources are those that containers run with, by their names, as Resources says.
	Resources map[string]corev1.ResourceRequirements
	// PodResources are those that the pod's cgroup was made with (KEP-5419); nil: as they are to be.
	PodResources *corev1.ResourceRequirements
	// Backoffs are of containers that were started again, by their names.
	Backoffs Backoffs
	// RestartAll: a container's exit demands that all are made anew (KEP-5532).
	RestartAll bool
	Now        time.Time
}

// Probes are results that a container has; nil: none yet.
type Probes struct{ Liveness, Startup *results.Result }

// Action is one thing to do. Actions are done in order.
type Action interface{ action() }

// Container says which one it is about.
type Container struct {
	Spec *corev1.Container
	Kind podutil.ContainerType
}

type (
	// StopPod stops all containers that run, as Stops orders them, and all sandboxes.
	StopPod struct{}
	// StopContainer stops one that runs.
	StopContainer struct {
		Container
		ID      kubecontainer.ContainerID
		Reason  Reason
		Message string // of the event, upstream's
		Grace   time.Duration
	}
	// RemoveContainer removes one that has stopped.
	RemoveContainer struct {
		ID      kubecontainer.ContainerID
		KeepLog bool
	}
	// CreateSandbox makes a sandbox. When that fails, nothing that comes after is done.
	CreateSandbox struct {
		Attempt uint32
		Changed bool // there was one, which is stopped by then
	}
	// ResizeContainer gives a container that runs other resources. Those that shrink come first.
	ResizeContainer struct {
		Container
		ID       kubecontainer.ContainerID
		Resource corev1.ResourceName
	}
	// ResizePod gives the pod's cgroup what the pod, or its containers together, are to have.
	ResizePod struct{}
	// StartContainer makes a container and starts it.
	StartContainer struct {
		Container
		// Target is the container whose processes an ephemeral one sees.
		Target string
		// Restarts is how often it was started before.
		Restarts int
		// Exited is when it ended last; zero: it has not run yet. Its back-off is counted from then.
		Exited time.Time
		// Needed: when it cannot be started, nothing that comes after is done.
		Needed bool
	}
	// Wait is instead of a start: the container crashed a short time ago.
	Wait struct {
		Container
		Until   time.Time
		Message string // upstream's, for status and event
		Needed  bool   // as for StartContainer
	}
)

func (StopPod) action()         {}
func (StopContainer) action()   {}
func (RemoveContainer) action() {}
func (CreateSandbox) action()   {}
func (ResizeContainer) action() {}
func (ResizePod) action()       {}
func (StartContainer) action()  {}
func (Wait) action()            {}

// Reason is why a container is stopped, as far as it decides how long it has for that.
type Reason string

// Reasons to stop a container.
const (
	Unknown    Reason = "Unknown"
	Liveness   Reason = "LivenessProbe"
	Startup    Reason = "StartupProbe"
	RestartAll Reason = "RestartAllContainers"
)

// newest is the container's last attempt; nil: none is known.
func (p *Pod) newest(name string) *kubecontainer.Status {
	return p.Have.FindContainerStatusByName(name)
}
