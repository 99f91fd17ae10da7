package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/events"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/plan"
)

// resizing notes whether containers run with other resources than they were allotted.
func (p *worker) resizing(pod *corev1.Pod, have *kubecontainer.PodStatus) {
	for c := range podutil.ContainerIter(&pod.Spec, podutil.InitContainers|podutil.Containers) {
		s := have.FindContainerStatusByName(c.Name)
		had, known := p.given.Containers[c.Name]
		if known && s != nil && s.State == kubecontainer.ContainerStateRunning && !plan.SameResources(had, plan.Resources(pod, c)) {
			p.Status.resizing(p.uid, "", "", pod.Generation)
			return
		}
	}
	if plan.PodResized(pod, p.given.Pod) {
		p.Status.resizing(p.uid, "", "", pod.Generation)
		return
	}
	if generation, was := p.Status.resized(p.uid); was {
		p.Events.Event(pod, corev1.EventTypeNormal, events.ResizeCompleted, events.PodResizeCompletedMsg(logr.Discard(), pod, generation))
		if p.Settled != nil {
			p.wg.Go(p.Settled)
		}
	}
}

// resizeContainer gives a container that runs what it was allotted of one resource.
func (s *pass) resizeContainer(ctx context.Context, a plan.ResizeContainer) error {
	if err := s.mayShrink(ctx); err != nil {
		return s.resizeFailed(err)
	}
	if !s.grown { // the pod's cgroup has room for what its containers have, at any time
		if err := s.giveCgroup(s.most()); err != nil {
			return s.resizeFailed(fmt.Errorf("resize the pod's cgroup: %w", err))
		}
		s.grown = true
	}
	want := plan.Resources(s.pod, a.Spec)
	had, known := s.given.Containers[a.Spec.Name]
	if !known {
		had = want
	}
	had = *had.DeepCopy()
	take(&had.Limits, want.Limits, a.Resource)
	take(&had.Requests, want.Requests, a.Resource)
	frame, err := s.common(ctx)
	if err != nil {
		return s.resizeFailed(err)
	}
	spec := *a.Spec
	spec.Resources = had
	c := cri.Container{Pod: frame, Spec: &spec}
	if err := s.Runtime.UpdateContainerResources(ctx, a.ID.ID, &runtimeapi.ContainerResources{Linux: c.Resources()}); err != nil {
		return s.resizeFailed(fmt.Errorf("resize container %s: %w", a.Spec.Name, err))
	}
	s.gave(a.Spec.Name, had)
	return nil
}

// take takes over one resource; none: it is taken away.
func take(to *corev1.ResourceList, from corev1.ResourceList, name corev1.ResourceName) {
	q, ok := from[name]
	switch {
	case ok && *to == nil:
		*to = corev1.ResourceList{name: q}
	case ok:
		(*to)[name] = q
	default:
		delete(*to, name)
	}
}

// makeRoom lets the pod's cgroup have what a container needs that starts again: whatever came between the restart that a resize demanded and
// the resize of the pod itself, a container with more than the pod has cannot start.
func (s *pass) makeRoom(a plan.StartContainer) {
	if s.grown || s.Cgroups == nil || a.Restarts == 0 {
		return
	}
	now, err := s.Cgroups.Current(s.pod)
	pod := s.most()
	want := cm.ResourceConfigForPod(pod, !s.Node.NoCPUQuota, cm.QuotaPeriod, false, kubeletconfig.NoneMemoryReservationPolicy)
	if err != nil || !less(now.CPUQuota, want.CPUQuota) && !less(now.Memory, want.Memory) {
		return // what cannot be read may be well
	}
	if err = s.podInUse(); err == nil {
		err = s.giveCgroup(pod)
	}
	if err != nil { // it may do without
		s.log.Warn("Pod's cgroup was not resized for a container that starts", "container", a.Spec.Name, "error", err)
		return
	}
	s.grown = true
}

// less: one limit is below another; none, and what is not known, is not.
func less(now, want *int64) bool {
	return now != nil && want != nil && *now > 0 && (*want <= 0 || *now < *want)
}

// runs is a container that runs; false: it does not, or not any more since the pass began.
func (s *pass) runs(name string) (*kubecontainer.Status, bool) {
	have := s.have.FindContainerStatusByName(name)
	return have, have != nil && have.State == kubecontainer.ContainerStateRunning && !slices.Contains(s.stopped, have.ID)
}

// most is the pod with the most that each container that runs has before or after it is resized.
func (s *pass) most() *corev1.Pod {
	pod := s.pod.DeepCopy()
	for c := range podutil.ContainerIter(&pod.Spec, podutil.InitContainers|podutil.Containers) {
		if had, known := s.given.Containers[c.Name]; known {
			if _, runs := s.runs(c.Name); !runs {
				continue
			}
			enlarge(&c.Resources, had)
		}
	}
	if pod.Spec.Resources != nil && s.given.Pod != nil {
		enlarge(pod.Spec.Resources, *s.given.Pod)
	}
	return pod
}

// enlarge takes over what is more than what is there already.
func enlarge(to *corev1.ResourceRequirements, had corev1.ResourceRequirements) {
	for _, lists := range [][2]corev1.ResourceList{{to.Limits, had.Limits}, {to.Requests, had.Requests}} {
		for name, q := range lists[1] {
			if now, ok := lists[0][name]; ok && now.Cmp(q) < 0 {
				lists[0][name] = q
			}
		}
	}
}

// resizePod gives the pod's cgroup, and its sandbox, what its containers have together.
func (s *pass) resizePod(ctx context.Context) error {
	if err := s.mayShrink(ctx); err != nil {
		return s.resizeFailed(err)
	}
	if err := s.giveCgroup(s.pod); err != nil {
		return s.resizeFailed(fmt.Errorf("resize the pod's cgroup: %w", err))
	}
	config, err := s.sandboxConfig(ctx)
	if err != nil {
		return s.resizeFailed(err)
	}
	_, err = s.Runtime.UpdatePodSandboxResources(ctx, &runtimeapi.UpdatePodSandboxResourcesRequest{
		PodSandboxId: s.sandbox, Overhead: config.Linux.Overhead, Resources: config.Linux.Resources,
	})
	if err != nil && status.Code(err) != codes.Unimplemented && !strings.Contains(err.Error(), "not implemented") {
		return s.resizeFailed(fmt.Errorf("resize the sandbox: %w", err))
	}
	s.gavePod(s.pod)
	return nil
}

// mayShrink refuses to take memory away that is in use. It is asked before anything is changed, once.
func (s *pass) mayShrink(ctx context.Context) error {
	if s.shrinks {
		return nil
	}
	if err := s.inUse(ctx); err != nil {
		return fmt.Errorf("cannot decrease memory limits: %w", err)
	}
	s.shrinks = true
	return nil
}

func (s *pass) inUse(ctx context.Context) error {
	var errs []error
	if s.Cgroups != nil {
		errs = append(errs, s.podInUse())
	}
	for c := range podutil.ContainerIter(&s.pod.Spec, podutil.InitContainers|podutil.Containers) {
		have, runs := s.runs(c.Name)
		had, known := s.given.Containers[c.Name]
		resources := plan.Resources(s.pod, c)
		want, before := resources.Limits.Memory().Value(), had.Limits.Memory().Value()
		if !runs || !known || want == 0 || before != 0 && before <= want || startsAnew(c) {
			continue
		}
		stats, err := s.Runtime.ContainerStats(ctx, have.ID.ID)
		switch used := stats.GetMemory().GetUsageBytes(); {
		case err != nil:
			errs = append(errs, fmt.Errorf("missing container %q memory usage: %w", c.Name, err))
		case used == nil:
			errs = append(errs, fmt.Errorf("missing container %q memory usage", c.Name))
		case used.GetValue() >= uint64(want):
			errs = append(errs, fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)", c.Name, want, used.GetValue()))
		}
	}
	return utilerrors.NewAggregate(errs)
}

func (s *pass) podInUse() error {
	want := cm.ResourceConfigForPod(s.pod, true, cm.QuotaPeriod, false, kubeletconfig.NoneMemoryReservationPolicy)
	now, err := s.Cgroups.Current(s.pod)
	if err != nil {
		return err
	}
	if want == nil || want.Memory == nil || now.Memory != nil && *now.Memory <= *want.Memory {
		return nil
	}
	used, err := s.Cgroups.MemoryUsage(s.pod)
	if err != nil {
		return fmt.Errorf("missing pod memory usage: %w", err)
	}
	if used >= *want.Memory {
		return fmt.Errorf("attempting to set pod memory limit (%d) below current usage (%d)", *want.Memory, used)
	}
	return nil
}

// startsAnew: the container gets other memory only with a restart.
func startsAnew(c *corev1.Container) bool {
	return slices.ContainsFunc(c.ResizePolicy, func(p corev1.ContainerResizePolicy) bool {
		return p.ResourceName == corev1.ResourceMemory && p.RestartPolicy == corev1.RestartContainer
	})
}

// giveCgroup gives the pod's cgroup what a pod's containers have.
func (s *pass) giveCgroup(pod *corev1.Pod) error {
	if s.Cgroups == nil {
		return nil
	}
	return s.Cgroups.Ensure(pod)
}

func (s *pass) resizeFailed(err error) error {
	if generation, news := s.Status.resizing(s.uid, corev1.PodReasonError, err.Error(), s.pod.Generation); news {
		s.Events.Event(s.pod, corev1.EventTypeWarning, events.ResizeError, events.PodResizeErrorMsg(logr.Discard(), s.pod, generation, err.Error()))
	}
	return err
}
