package worker

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

// recall begins with what an agent before this one gave the pod.
func (p *worker) recall() {
	if p.Givens != nil {
		var err error
		if p.given, err = p.Givens.Load(p.uid); err != nil {
			p.log.Warn("What the pod was given is not known, and is taken to be what it was allotted", "error", err)
			p.given = Given{}
		}
	}
	if p.given.Containers == nil {
		p.given.Containers = map[string]corev1.ResourceRequirements{}
	}
}

// gave notes what a container was given.
func (p *worker) gave(container string, resources corev1.ResourceRequirements) {
	p.given.Containers[container] = resources
	p.remember()
}

// gavePod notes what the pod's cgroup was given.
func (p *worker) gavePod(pod *corev1.Pod) {
	p.given.Pod = &corev1.ResourceRequirements{}
	if pod.Spec.Resources != nil {
		p.given.Pod = pod.Spec.Resources.DeepCopy()
	}
	p.remember()
}

func (p *worker) remember() {
	if p.Givens == nil {
		return
	}
	if err := p.Givens.Save(p.uid, p.given); err != nil {
		p.log.Warn("What the pod was given was not written down", "error", err)
	}
}

// fillIn says what containers have where the runtime does not.
func (p *worker) fillIn(have *kubecontainer.PodStatus) {
	for _, s := range have.ContainerStatuses {
		given, known := p.given.Containers[s.Name]
		if !known {
			continue
		}
		if s.Resources == nil {
			s.Resources = &kubecontainer.ContainerResources{}
			if q, ok := given.Requests[corev1.ResourceCPU]; ok {
				s.Resources.CPURequest = &q
			}
			if q, ok := given.Limits[corev1.ResourceCPU]; ok {
				s.Resources.CPULimit = &q
			}
			if q, ok := given.Limits[corev1.ResourceMemory]; ok {
				s.Resources.MemoryLimit = &q
			}
		}
		if q, ok := given.Requests[corev1.ResourceMemory]; ok && s.Resources.MemoryRequest == nil {
			s.Resources.MemoryRequest = &q
		}
	}
}

// cgroup is what the pod's has; nil: it has none, or it cannot be read.
func (p *worker) cgroup(pod *corev1.Pod) *cm.ResourceConfig {
	if p.Cgroups == nil || p.parent == "" {
		return nil
	}
	current, err := p.Cgroups.Current(pod)
	if err != nil {
		return nil
	}
	return current
}
