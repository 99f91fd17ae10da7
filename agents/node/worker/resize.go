package worker

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/events"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/plan"
)

// resizeState are the conditions of a pod that is to have other resources (KEP-1287).
type resizeState struct{ pending, progress *corev1.PodCondition }

// ResizePending says that the pod cannot have what it asks for: not yet, or never. It tells whether that is news.
func (w *Writer) ResizePending(uid types.UID, reason, message string, generation int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.pods[uid]
	if t == nil {
		t = &told{}
		w.pods[uid] = t
	}
	old := t.resize.pending
	t.resize.pending = resizeCondition(corev1.PodResizePending, old, reason, message, generation)
	return old == nil || old.Reason != reason || old.ObservedGeneration != generation
}

// ResizeAllotted says that the pod has been given what it asks for, or asks for nothing more.
func (w *Writer) ResizeAllotted(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.pods[uid]; t != nil {
		t.resize.pending = nil
	}
}

// resizing says that the pod's containers are being given other resources. It tells whether that is news, and since which generation.
func (w *Writer) resizing(uid types.UID, reason, message string, generation int64) (since int64, news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.pods[uid]
	if t == nil {
		t = &told{}
		w.pods[uid] = t
	}
	old := t.resize.progress
	if old != nil {
		if reason == "" && message == "" {
			reason, message = old.Reason, old.Message
		}
		generation = old.ObservedGeneration
	}
	t.resize.progress = resizeCondition(corev1.PodResizeInProgress, old, reason, message, generation)
	return generation, old == nil || old.Reason != reason || old.Message != message
}

// resized says that they have them. It tells since which generation they were given them; false: nothing was changed.
func (w *Writer) resized(uid types.UID) (since int64, was bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.pods[uid]
	if t == nil || t.resize.progress == nil {
		return 0, false
	}
	since = t.resize.progress.ObservedGeneration
	t.resize.progress = nil
	return since, true
}

func (w *Writer) resizeConditions(uid types.UID) []corev1.PodCondition {
	w.mu.Lock()
	defer w.mu.Unlock()
	var conditions []corev1.PodCondition
	if t := w.pods[uid]; t != nil {
		for _, c := range []*corev1.PodCondition{t.resize.pending, t.resize.progress} {
			if c != nil {
				conditions = append(conditions, *c)
			}
		}
	}
	return conditions
}

func resizeCondition(kind corev1.PodConditionType, old *corev1.PodCondition, reason, message string, generation int64) *corev1.PodCondition {
	c := &corev1.PodCondition{
		Type: kind, Status: corev1.ConditionTrue, LastProbeTime: metav1.Now(), LastTransitionTime: metav1.Now(),
		Reason: reason, Message: message, ObservedGeneration: generation,
	}
	if old != nil && old.Reason == reason {
		c.LastTransitionTime = old.LastTransitionTime
	}
	return c
}

// resizing notes whether containers run with other resources than they were allotted.
func (p *worker) resizing(pod *corev1.Pod, have *kubecontainer.PodStatus) {
	for c := range podutil.ContainerIter(&pod.Spec, podutil.InitContainers|podutil.Containers) {
		s := have.FindContainerStatusByName(c.Name)
		had, known := p.resources[c.Name]
		if known && s != nil && s.State == kubecontainer.ContainerStateRunning && !sameResources(had, c.Resources) {
			p.Status.resizing(p.uid, "", "", pod.Generation)
			return
		}
	}
	if generation, was := p.Status.resized(p.uid); was {
		p.Events.Event(pod, corev1.EventTypeNormal, events.ResizeCompleted, events.PodResizeCompletedMsg(logr.Discard(), pod, generation))
		if p.Settled != nil {
			p.wg.Go(p.Settled)
		}
	}
}

func sameResources(a, b corev1.ResourceRequirements) bool {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		for _, lists := range [][2]corev1.ResourceList{{a.Limits, b.Limits}, {a.Requests, b.Requests}} {
			if !equality.Semantic.DeepEqual(lists[0][name], lists[1][name]) {
				return false
			}
		}
	}
	return true
}

// resizeContainer gives a container that runs what it was allotted of one resource.
func (s *pass) resizeContainer(ctx context.Context, a plan.ResizeContainer) error {
	if !s.grown { // the pod's cgroup has room for what its containers have, at any time
		if err := s.giveCgroup(s.most()); err != nil {
			return s.resizeFailed(fmt.Errorf("resize the pod's cgroup: %w", err))
		}
		s.grown = true
	}
	had, known := s.resources[a.Spec.Name]
	if !known {
		had = a.Spec.Resources
	}
	had = *had.DeepCopy()
	take(&had.Limits, a.Spec.Resources.Limits, a.Resource)
	take(&had.Requests, a.Spec.Resources.Requests, a.Resource)
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
	s.resources[a.Spec.Name] = had
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

// most is the pod with the most that each container has before or after it is resized.
func (s *pass) most() *corev1.Pod {
	pod := s.pod.DeepCopy()
	for c := range podutil.ContainerIter(&pod.Spec, podutil.InitContainers|podutil.Containers) {
		had, known := s.resources[c.Name]
		if !known {
			continue
		}
		for _, lists := range [][2]corev1.ResourceList{{c.Resources.Limits, had.Limits}, {c.Resources.Requests, had.Requests}} {
			for name, q := range lists[1] {
				if now, ok := lists[0][name]; ok && now.Cmp(q) < 0 {
					lists[0][name] = q
				}
			}
		}
	}
	return pod
}

// resizePod gives the pod's cgroup, and its sandbox, what its containers have together.
func (s *pass) resizePod(ctx context.Context) error {
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
	return nil
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
