package worker

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/plan"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// Runtime is what of a container runtime workers call; k8s.io/cri-api's RuntimeService is one.
type Runtime interface {
	RunPodSandbox(ctx context.Context, config *runtimeapi.PodSandboxConfig, handler string) (string, error)
	PodSandboxStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.PodSandboxStatusResponse, error)
	StopPodSandbox(ctx context.Context, id string) error
	RemovePodSandbox(ctx context.Context, id string) error
	CreateContainer(ctx context.Context, sandbox string, config *runtimeapi.ContainerConfig, sandboxConfig *runtimeapi.PodSandboxConfig) (string, error)
	StartContainer(ctx context.Context, id string) error
	StopContainer(ctx context.Context, id string, seconds int64) error
	RemoveContainer(ctx context.Context, id string) error
	UpdateContainerResources(ctx context.Context, id string, resources *runtimeapi.ContainerResources) error
	UpdatePodSandboxResources(ctx context.Context, request *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error)
	ContainerStats(ctx context.Context, id string) (*runtimeapi.ContainerStats, error)
}

// Observer tells what the runtime has.
type Observer interface {
	// Report is what is known of a pod; nil: nothing yet.
	Report(uid types.UID) *cri.Report
	// Refresh asks the runtime.
	Refresh(ctx context.Context, uid types.UID) (*cri.Report, error)
	// Pods are all that the runtime has; nil: it is not known yet.
	Pods() []Found
}

// Found is a pod that the runtime has.
type Found struct {
	UID             types.UID
	Namespace, Name string
}

// Images has images pulled. Errors are *podstatus.Waiting.
type Images interface {
	Ensure(ctx context.Context, pod *corev1.Pod, c *corev1.Container, sandbox *runtimeapi.PodSandboxConfig) (Image, error)
}

// Image is one that is there: as the runtime calls it, and who its processes are, by number or else by name.
type Image struct {
	Ref      string
	UID      *int64
	Username string
}

// Environment is what a pod and its containers find around them.
type Environment interface {
	// Sandbox is the pod's host name as the kernel shall have it, and how names are resolved.
	Sandbox(ctx context.Context, pod *corev1.Pod) (hostname string, dns *runtimeapi.DNSConfig, err error)
	// Variables are the container's.
	Variables(ctx context.Context, pod *corev1.Pod, c *corev1.Container, ips []string) ([]kubecontainer.EnvVar, error)
	// Hosts is the content of /etc/hosts.
	Hosts(pod *corev1.Pod, ips []string) ([]byte, error)
}

// Volumes are pods' volumes, and the files that containers have without asking.
type Volumes interface {
	Setup(ctx context.Context, pod *corev1.Pod) error
	Mounts(ctx context.Context, pod *corev1.Pod, c *corev1.Container, envs []kubecontainer.EnvVar) ([]*runtimeapi.Mount, error)
	// Hosts mounts /etc/hosts; nil: the container mounts something there itself.
	Hosts(pod *corev1.Pod, c *corev1.Container, text []byte) (*runtimeapi.Mount, error)
	// TerminationLog mounts a file for the container's last words; nil: it has none.
	TerminationLog(pod *corev1.Pod, c *corev1.Container) (*runtimeapi.Mount, error)
	// Groups are those that the pod's processes need for its volumes.
	Groups(pod *corev1.Pod) []int64
	TearDown(ctx context.Context, uid types.UID) error
	// Remove removes all of a pod that was torn down.
	Remove(ctx context.Context, uid types.UID) error
	// Orphans removes what is left of pods that are not kept.
	Orphans(ctx context.Context, keep func(types.UID) bool) error
}

// Objects are ConfigMaps and Secrets, watched while a pod uses them.
type Objects interface {
	Use(pod *corev1.Pod)
	Release(pod *corev1.Pod)
}

// Hooks run when a container has started and before it is stopped. They record their own events.
type Hooks interface {
	PostStart(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id kubecontainer.ContainerID, ips []string) error
	// PreStop waits for the hook for as long as the container has to stop, and returns how long that took.
	PreStop(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id kubecontainer.ContainerID, ips []string, grace time.Duration) time.Duration
}

// Probes are run for pods that they are told of. Results are by the container's id.
type Probes interface {
	Set(pod *corev1.Pod, status *corev1.PodStatus)
	// Terminate ends those that could have containers restarted, Forget all.
	Terminate(uid types.UID)
	Forget(uid types.UID)
	Plan(uid types.UID) map[string]plan.Probes
	Status(uid types.UID) map[string]podstatus.Probes
}

// Cgroups are pods'.
type Cgroups interface {
	Exists(pod *corev1.Pod) bool
	// Ensure makes the pod's, or gives it what its containers have together now.
	Ensure(pod *corev1.Pod) error
	// Parent is its name as runtimes want it.
	Parent(pod *corev1.Pod) (string, error)
	// Current is what it has now of the CPU and of memory, MemoryUsage what is used of it, in bytes.
	Current(pod *corev1.Pod) (*cm.ResourceConfig, error)
	MemoryUsage(pod *corev1.Pod) (int64, error)
	// Remove removes it, whatever is left in it.
	Remove(ctx context.Context, uid types.UID) error
}

// Given are the resources that a pod and its containers were given, which is not always what they were allotted.
type Given struct {
	// Containers are by their names, Pod is the pod's own; nil: it is not known.
	Containers map[string]corev1.ResourceRequirements `json:"containers,omitempty"`
	Pod        *corev1.ResourceRequirements           `json:"pod,omitempty"`
}

// Givens outlive the agent: a resize that one has begun the next one ends.
type Givens interface {
	Load(uid types.UID) (Given, error)
	Save(uid types.UID, given Given) error
}

// Meter counts what workers do.
type Meter interface {
	// Turned is one look at a pod: create for the first, sync, kill or terminated.
	Turned(operation string, took time.Duration)
	// Ran is a pod that runs, so long after it was first seen.
	Ran(took time.Duration)
	// PodStarted is a sandbox that was asked for, with users of its own or without, ContainerStarted a container, of a kind, and the reason why it did not start; "": it did.
	PodStarted(ownUsers bool, err error)
	// OwnUsersFailed is a pod with users of its own that did not start, or one of its containers.
	OwnUsersFailed()
	ContainerStarted(kind, failure string)
	// ContainerEnded is the end of one.
	ContainerEnded(kind string, exitCode int32, reason string)
}

// Users are a pod's part of the node's user IDs.
type Users = runtimeapi.UserNamespace
