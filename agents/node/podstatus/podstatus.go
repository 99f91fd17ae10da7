// Package podstatus says what is to be reported of a pod, from what the runtime and the probes say and what was reported before. It
// does nothing else. Phases, reasons and conditions are those of the kubelet of Kubernetes 1.36.
package podstatus

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/status"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
	utilpod "k8s.io/kubernetes/pkg/util/pod"
)

// Pod is what is known of a pod whose status is asked for.
type Pod struct {
	// Pod is as it was admitted, with the status that the API has.
	Pod *corev1.Pod
	// Old is the status that was reported last, perhaps not heard by the API yet.
	Old *corev1.PodStatus
	// Have is what the runtime reports.
	Have *kubecontainer.PodStatus
	// Waiting says why containers could not be started, by their names.
	Waiting map[string]Waiting
	// Probes are by the container's id; no entry: none has run.
	Probes map[string]Probes
	// Probed: probes are run for the pod; what has no result yet is waited for.
	Probed bool
	// Since is when the agent began. What ran before keeps being ready until its probe says otherwise.
	Since func(container *corev1.ContainerStatus) bool
	// Stopped: no container runs any more, nor will.
	Stopped bool
	// Evicted is why the node ended the pod; nil: it did not.
	Evicted *Evicted
	// NodeIPs are the node's addresses, the primary one first.
	NodeIPs []netip.Addr
	// RecursiveReadOnly: the pod's runtime handler can make read-only mounts recursively so (KEP-3857).
	RecursiveReadOnly bool
	// Cgroup is what the pod's cgroup has; nil: it has none, or it is not known.
	Cgroup *cm.ResourceConfig
	// Resize are the conditions of a resize that is not done (KEP-1287).
	Resize []corev1.PodCondition
}

// Waiting is why a container is not there: upstream's reason (ErrImagePull, CrashLoopBackOff, …) and message. It is the error of
// whatever has to be done before a container runs.
type Waiting struct{ Reason, Message string }

func (w *Waiting) Error() string { return w.Reason + ": " + w.Message }

// Probes are results of a container; nil: none yet.
type Probes struct{ Startup, Readiness *bool }

// Evicted is the status of a pod that the node ended.
type Evicted struct {
	Reason, Message string
	Condition       *corev1.PodCondition // DisruptionTarget; nil: none
}

// Status is what is to be reported.
func Status(p Pod) *corev1.PodStatus {
	if p.Old == nil {
		p.Old = &p.Pod.Status
	}
	s := &corev1.PodStatus{QOSClass: qos.GetPodQOS(p.Pod)}
	s.PodIPs = p.addresses()
	restarting := kubecontainer.ShouldAllContainersRestart(p.Pod, p.Have, p.Old)
	s.ContainerStatuses = p.containers(p.Pod.Spec.Containers, p.Old.ContainerStatuses, podutil.Containers, restarting)
	s.InitContainerStatuses = p.containers(p.Pod.Spec.InitContainers, p.Old.InitContainerStatuses, podutil.InitContainers, restarting)
	ephemeral := make([]corev1.Container, len(p.Pod.Spec.EphemeralContainers))
	for i := range ephemeral {
		ephemeral[i] = corev1.Container(p.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
	}
	s.EphemeralContainerStatuses = p.containers(ephemeral, p.Old.EphemeralContainerStatuses, podutil.EphemeralContainers, restarting)
	s.Resources = p.resources()
	s.AllocatedResources = resourcehelper.PodRequests(p.Pod, resourcehelper.PodResourcesOptions{})

	p.ready(s)
	p.decidePhase(s)
	p.conditions(s)
	p.hostAddresses(s)
	return s
}

// decidePhase: what is over is over, whatever the runtime still reports.
func (p *Pod) decidePhase(s *corev1.PodStatus) {
	s.Phase = phase(p.Pod, s, p.Stopped, kubecontainer.HasAnyActiveRegularContainerStarted(&p.Pod.Spec, p.Have))
	if !over(s.Phase) {
		switch {
		case over(p.Old.Phase):
			s.Phase = p.Old.Phase
		case over(p.Pod.Status.Phase):
			s.Phase = p.Pod.Status.Phase
		}
	}
	if s.Phase == p.Old.Phase { // they belong to the phase
		s.Reason, s.Message = p.Old.Reason, p.Old.Message
		if s.Reason == "" {
			s.Reason = p.Pod.Status.Reason
		}
		if s.Message == "" {
			s.Message = p.Pod.Status.Message
		}
	}
	if p.Evicted != nil {
		s.Phase, s.Reason, s.Message = corev1.PodFailed, p.Evicted.Reason, p.Evicted.Message
	}
	if over(p.Pod.Status.Phase) {
		s.Phase = p.Pod.Status.Phase
	}
}

func over(phase corev1.PodPhase) bool {
	return phase == corev1.PodFailed || phase == corev1.PodSucceeded
}

// conditions are the node's own, and all of others as they are.
func (p *Pod) conditions(s *corev1.PodStatus) {
	s.Conditions = make([]corev1.PodCondition, 0, len(p.Pod.Status.Conditions)+2)
	for _, c := range p.Pod.Status.Conditions {
		if !kubetypes.PodConditionByKubelet(c.Type) {
			s.Conditions = append(s.Conditions, c)
		}
	}
	s.Conditions = append(s.Conditions, p.Resize...)
	if p.Evicted != nil && p.Evicted.Condition != nil {
		s.Conditions = utilpod.ReplaceOrAppendPodCondition(s.Conditions, p.Evicted.Condition)
	} else if _, c := podutil.GetPodConditionFromList(p.Old.Conditions, corev1.DisruptionTarget); c != nil {
		s.Conditions = utilpod.ReplaceOrAppendPodCondition(s.Conditions, c)
	}
	all := slices.Concat(s.InitContainerStatuses, s.ContainerStatuses)
	s.Conditions = append(s.Conditions, status.GeneratePodReadyToStartContainersCondition(p.Pod, p.Old, p.Have))
	s.Conditions = append(s.Conditions, status.GeneratePodInitializedCondition(p.Pod, p.Old, all, s.Phase))
	s.Conditions = append(s.Conditions, status.GeneratePodReadyCondition(p.Pod, p.Old, s.Conditions, all, s.Phase))
	s.Conditions = append(s.Conditions, status.GenerateContainersReadyCondition(p.Pod, p.Old, all, s.Phase))
	s.Conditions = append(s.Conditions, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionTrue,
		ObservedGeneration: podutil.CalculatePodConditionObservedGeneration(p.Old, p.Pod.Generation, corev1.PodScheduled),
	})
	if podutil.AllContainersCouldRestart(&p.Pod.Spec) {
		s.Conditions = append(s.Conditions, status.GenerateAllContainersRestartingCondition(p.Pod, p.Have, p.Old, s.Phase))
	}
}

// addresses are at most one of each family, that of the node's first address first.
func (p *Pod) addresses() []corev1.PodIP {
	var first, second string
	six := len(p.NodeIPs) > 0 && p.NodeIPs[0].Is6()
	for _, text := range p.Have.IPs {
		ip, err := netip.ParseAddr(text)
		switch {
		case err != nil:
		case ip.Is6() == six && first == "":
			first = ip.String()
		case ip.Is6() != six && second == "":
			second = ip.String()
		}
	}
	var ips []corev1.PodIP
	for _, ip := range []string{first, second} {
		if ip != "" {
			ips = append(ips, corev1.PodIP{IP: ip})
		}
	}
	return ips
}

// hostAddresses are the node's, and the pod's own when it is in the node's network.
func (p *Pod) hostAddresses(s *corev1.PodStatus) {
	for _, ip := range p.NodeIPs {
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip.String()})
	}
	if len(s.HostIPs) > 0 {
		s.HostIP = s.HostIPs[0].IP
	}
	if kubecontainer.IsHostNetworkPod(p.Pod) {
		for i, ip := range p.NodeIPs {
			if i == len(s.PodIPs) {
				s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip.String()})
			}
		}
	}
	if len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
}
