package podstatus

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// ready sets which containers have started and are ready.
func (p *Pod) ready(s *corev1.PodStatus) {
	for i := range s.ContainerStatuses {
		c := &s.ContainerStatuses[i]
		p.readiness(c, specOf(p.Pod.Spec.Containers, c.Name))
	}
	for i := range s.InitContainerStatuses {
		c := &s.InitContainerStatuses[i]
		spec := specOf(p.Pod.Spec.InitContainers, c.Name)
		if podutil.IsRestartableInitContainer(spec) {
			p.readiness(c, spec)
			continue
		}
		started := p.started(c, spec)
		c.Started = &started
		c.Ready = c.State.Terminated != nil && c.State.Terminated.ExitCode == 0
	}
}

func specOf(specs []corev1.Container, name string) *corev1.Container {
	return &specs[slices.IndexFunc(specs, func(c corev1.Container) bool { return c.Name == name })]
}

func (p *Pod) readiness(c *corev1.ContainerStatus, spec *corev1.Container) {
	started := p.started(c, spec)
	c.Started, c.Ready = &started, false
	if !started {
		return
	}
	result := p.Probes[idOf(c)].Readiness
	switch {
	case result != nil && *result:
		c.Ready = true
	case p.Since != nil && !p.Since(c): // it ran before, and is as it was until its probe says otherwise
		c.Ready = result == nil && (spec.ReadinessProbe == nil || podutil.IsPodReadyConditionTrue(p.Pod.Status))
	default:
		c.Ready = spec.ReadinessProbe == nil
	}
}

// started: its startup probe has succeeded, or it has none.
func (p *Pod) started(c *corev1.ContainerStatus, spec *corev1.Container) bool {
	if c.State.Running == nil {
		return false
	}
	if result := p.Probes[idOf(c)].Startup; result != nil {
		return *result
	}
	return c.Started != nil && *c.Started || spec.StartupProbe == nil || !p.Probed
}

// idOf is the container's id without the runtime's name.
func idOf(c *corev1.ContainerStatus) string {
	for i := len(c.ContainerID) - 1; i >= 0; i-- {
		if c.ContainerID[i] == '/' {
			return c.ContainerID[i+1:]
		}
	}
	return c.ContainerID
}
