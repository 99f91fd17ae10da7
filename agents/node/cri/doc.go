// Package cri says what pods and containers are in the words of the Container Runtime Interface, and what a runtime reports in the
// kubelet's. It calls no runtime.
//
// Labels, annotations and directories are the kubelet's, so that what reads them (runtimes, log collectors, crictl) finds them, and
// an agent takes over what a kubelet has left.
package cri

import (
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

// Node is what is the same for all of a node's pods.
type Node struct {
	MemoryCapacity int64  // bytes
	PodLogs        string // directory
	SeccompRoot    string // directory of profiles that pods name
	SeccompDefault bool   // the runtime's profile where a pod names none
	CgroupV2       bool
	SwapController bool // the kernel counts swap
	NoHugetlb      bool // the kernel does not count huge pages
	NoCPUQuota     bool // CPU limits are not enforced
	KillGroup      bool // all processes of a container die when one runs out of memory (cgroup v2)
}

// Pod is what a pod's sandbox and containers have in common.
type Pod struct {
	*Node
	*corev1.Pod
	Attempt      uint32
	Hostname     string // as the kernel shall have it
	DNS          *runtimeapi.DNSConfig
	CgroupParent string
	Users        *runtimeapi.UserNamespace // nil: the node's
	ExtraGroups  []int64                   // of its volumes
}

// Container is one attempt of a container.
type Container struct {
	*Pod
	Spec    *corev1.Container
	Attempt int
	Image   string // as the runtime calls it
	// User is who the image's processes are when the pod does not say: a number, or else a name.
	UID      *int64
	Username string
	Envs     []kubecontainer.EnvVar
	Mounts   []*runtimeapi.Mount
	Devices  []*runtimeapi.Device
	// Target is the container whose processes it shares; "": none.
	Target string
}

// LogDirectory is the pod's, relative to nothing.
func (p *Pod) LogDirectory() string {
	return filepath.Join(p.PodLogs, p.Namespace+"_"+p.Name+"_"+string(p.UID))
}

// LogPath is where the container's output goes, below the pod's log directory.
func LogPath(container string, attempt int) string {
	return filepath.Join(container, itoa(attempt)+".log")
}
