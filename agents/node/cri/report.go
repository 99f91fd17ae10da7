package cri

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	apitypes "k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubelet/pkg/types"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

// Report is what a runtime says of one pod.
type Report struct {
	Runtime    string // its name
	Sandboxes  []*runtimeapi.PodSandboxStatus
	Containers []Reported
	// LastIPs are the addresses that the pod had while it had a sandbox that ran.
	LastIPs []string
	// Messages are what containers wrote for their end, by their ids.
	Messages map[string]string
	At       time.Time
}

// Say notes what a container wrote for its end.
func (r *Report) Say(id, message string) {
	if message == "" {
		return
	}
	if r.Messages == nil {
		r.Messages = map[string]string{}
	}
	r.Messages[id] = message
}

// Reported is a container's status, and the sandbox that it is in, which only lists of containers tell.
type Reported struct {
	*runtimeapi.ContainerStatus
	Sandbox string
}

// IPs are the pod's addresses, or those that it had last when no sandbox of it runs.
func (r *Report) IPs() []string {
	var newest *runtimeapi.PodSandboxStatus
	ready := false
	for _, s := range r.Sandboxes {
		ready = ready || s.State == runtimeapi.PodSandboxState_SANDBOX_READY
		if newest == nil || s.CreatedAt > newest.CreatedAt {
			newest = s
		}
	}
	switch {
	case !ready:
		return r.LastIPs
	case newest.State == runtimeapi.PodSandboxState_SANDBOX_READY:
		return Addresses(newest)
	}
	return nil
}

// Status is the report in the kubelet's words, the newest first. It leaves the report as it is.
func (r *Report) Status(id apitypes.UID, namespace, name string) *kubecontainer.PodStatus {
	s := &kubecontainer.PodStatus{
		ID: id, Namespace: namespace, Name: name, TimeStamp: r.At, SandboxStatuses: slices.Clone(r.Sandboxes), IPs: r.IPs(),
	}
	slices.SortStableFunc(s.SandboxStatuses, func(a, b *runtimeapi.PodSandboxStatus) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
	active := ""
	if len(s.SandboxStatuses) > 0 {
		if newest := s.SandboxStatuses[0]; newest.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			active = newest.Id
		}
	}
	containers := slices.Clone(r.Containers)
	slices.SortStableFunc(containers, func(a, b Reported) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
	for _, c := range containers {
		status := r.container(c.ContainerStatus)
		s.ContainerStatuses = append(s.ContainerStatuses, status)
		if active != "" && c.Sandbox == active {
			s.ActiveContainerStatuses = append(s.ActiveContainerStatuses, status)
		}
	}
	return s
}

// Addresses are those of a sandbox, the primary one first; none for one in the node's network.
func Addresses(s *runtimeapi.PodSandboxStatus) []string {
	var ips []string
	if ip := s.GetNetwork().GetIp(); ip != "" {
		ips = append(ips, ip)
		for _, more := range s.GetNetwork().GetAdditionalIps() {
			ips = append(ips, more.GetIp())
		}
	}
	return ips
}

func (r *Report) container(c *runtimeapi.ContainerStatus) *kubecontainer.Status {
	annotations := c.GetAnnotations()
	s := &kubecontainer.Status{
		ID:           kubecontainer.ContainerID{Type: r.Runtime, ID: c.Id},
		Name:         c.GetLabels()[types.KubernetesContainerNameLabel],
		State:        State(c.State),
		CreatedAt:    time.Unix(0, c.CreatedAt),
		Image:        c.GetImage().GetImage(),
		ImageID:      c.ImageId,
		ImageRef:     c.ImageRef,
		RestartCount: int(c.GetMetadata().GetAttempt()),
		Resources:    reportedResources(c.GetResources().GetLinux()),
	}
	if s.Name == "" {
		s.Name = c.GetMetadata().GetName()
	}
	if n, err := strconv.Atoi(annotations[restartsAnnotation]); err == nil {
		s.RestartCount = n
	}
	s.Hash, _ = strconv.ParseUint(annotations[hashAnnotation], 16, 64) // none: it differs, and the container is made anew
	if u := c.GetUser().GetLinux(); u != nil {
		s.User = &kubecontainer.ContainerUser{Linux: &kubecontainer.LinuxContainerUser{
			UID: u.GetUid(), GID: u.GetGid(), SupplementalGroups: u.GetSupplementalGroups(),
		}}
	}
	if c.State != runtimeapi.ContainerState_CONTAINER_CREATED {
		s.StartedAt = time.Unix(0, c.StartedAt)
	}
	if c.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		s.Reason, s.ExitCode, s.FinishedAt = c.Reason, int(c.ExitCode), time.Unix(0, c.FinishedAt)
		s.Message = c.Message
		if own := r.Messages[c.Id]; own != "" {
			if s.Message != "" {
				s.Message += ": "
			}
			s.Message += own
		}
	}
	return s
}

// State is a container's, as kubelets call it.
func State(s runtimeapi.ContainerState) kubecontainer.State {
	switch s {
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		return kubecontainer.ContainerStateCreated
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		return kubecontainer.ContainerStateRunning
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		return kubecontainer.ContainerStateExited
	default:
		return kubecontainer.ContainerStateUnknown
	}
}

func uid(labels map[string]string) apitypes.UID {
	return apitypes.UID(labels[types.KubernetesPodUIDLabel])
}
