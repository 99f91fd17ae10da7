package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/status"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
	utilpod "k8s.io/kubernetes/pkg/util/pod"
)

// written is the pod as the API had it after a write: who watches may not have heard of it yet.
type written struct {
	uid      types.UID // of the API's pod: of a static pod, its mirror's
	revision uint64
	status   corev1.PodStatus
	deleted  bool
}

func revision(pod *corev1.Pod) uint64 {
	n, err := strconv.ParseUint(pod.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// covers: the write is as new as what the API has.
func (w *written) covers(api *corev1.Pod) bool {
	return w != nil && w.uid == api.UID && w.revision >= revision(api)
}

// send brings the API to what is to be said, and deletes the pod when all is said. Nothing is sent that the API has.
func (w *Writer) send(ctx context.Context, uid types.UID) error {
	running := w.mayRun(uid)
	api := w.api(uid)
	w.mu.Lock()
	t := w.pods[uid]
	if t == nil || t.status == nil || api == nil {
		w.mu.Unlock()
		return nil // whoever learns of the pod says so
	}
	want, finished, before := t.status, t.finished, &api.Status
	if t.written != nil && t.written.uid != api.UID {
		t.written = nil
	}
	if t.written.covers(api) {
		before = &t.written.status
	}
	deleted := t.written != nil && t.written.deleted
	w.mu.Unlock()
	if deleted {
		return nil
	}

	merged := merge(api, before, want, running)
	phase := before.Phase
	known := before.DeepCopy()
	normalize(api, known)
	if !same(known, merged) {
		patched, err := w.patch(ctx, api, before, merged)
		if gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		phase = patched.Status.Phase
		w.note(uid, patched)
		if patched.DeletionTimestamp != nil {
			api = patched
		}
	}
	if !finished || api.DeletionTimestamp == nil || kubetypes.IsMirrorPod(api) || !over(phase) {
		return nil
	}
	err := w.client.CoreV1().Pods(api.Namespace).Delete(ctx, api.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(api.UID)),
	})
	if err != nil && !gone(err) {
		return fmt.Errorf("delete pod %s: %w", fullName(api), err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.pods[uid]; t != nil {
		if t.written == nil {
			t.written = &written{uid: api.UID}
		}
		t.written.deleted = true // it may stay for others' finalizers, but nothing is left to be said
	}
	return nil
}

// gone: the API has no such pod, or another of its name.
func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

func (w *Writer) note(uid types.UID, pod *corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.pods[uid]; t != nil {
		t.written = &written{uid: pod.UID, revision: revision(pod), status: pod.Status}
	}
}

// patch sends what differs.
func (w *Writer) patch(ctx context.Context, pod *corev1.Pod, before, after *corev1.PodStatus) (*corev1.Pod, error) {
	old, err := json.Marshal(corev1.Pod{Status: *before})
	if err != nil {
		return nil, err
	}
	changed, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: pod.UID}, Status: *after}) // the UID is a condition
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(old, changed, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("compare statuses of pod %s: %w", fullName(pod), err)
	}
	patched, err := w.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("patch the status of pod %s: %w", fullName(pod), err)
	}
	return patched, nil
}

// merge is the status that the API is to have: others' conditions stay, and a pod is not over while its containers may run.
func merge(pod *corev1.Pod, old, next *corev1.PodStatus, running bool) *corev1.PodStatus {
	out := next.DeepCopy()
	out.Conditions = make([]corev1.PodCondition, 0, len(old.Conditions)+len(next.Conditions))
	for _, c := range old.Conditions {
		if !kubetypes.PodConditionByKubelet(c.Type) {
			out.Conditions = append(out.Conditions, c)
		}
	}
	ends := !over(old.Phase) && over(next.Phase)
	for _, c := range next.Conditions {
		switch {
		case kubetypes.PodConditionByKubelet(c.Type):
			out.Conditions = append(out.Conditions, c)
		case c.Type == corev1.DisruptionTarget && ends && !running: // not before it is true
			c.LastTransitionTime = metav1.Now()
			if _, before := podutil.GetPodCondition(old, c.Type); before != nil && before.Status == c.Status {
				c.LastTransitionTime = before.LastTransitionTime
			}
			out.Conditions = utilpod.ReplaceOrAppendPodCondition(out.Conditions, &c)
		}
	}
	out.ResourceClaimStatuses = old.ResourceClaimStatuses
	out.ExtendedResourceClaimStatus = old.ExtendedResourceClaimStatus
	out.NodeAllocatableResourceClaimStatuses = old.NodeAllocatableResourceClaimStatuses
	if ends && running {
		out.Phase, out.Reason, out.Message = old.Phase, old.Reason, old.Message
	}
	if over(out.Phase) && (podutil.IsPodReadyConditionTrue(*out) || podutil.IsContainersReadyConditionTrue(*out)) {
		unready(pod, old, out)
	}
	return out
}

// unready: nothing of a pod that is over is ready.
func unready(pod *corev1.Pod, old, out *corev1.PodStatus) {
	reason := status.PodCompleted
	if out.Phase == corev1.PodFailed {
		reason = status.PodFailed
	}
	for _, kind := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		podutil.UpdatePodCondition(out, &corev1.PodCondition{
			Type: kind, Status: corev1.ConditionFalse, Reason: reason,
			ObservedGeneration: podutil.CalculatePodConditionObservedGeneration(old, pod.Generation, kind),
		})
	}
}

// normalize gives the status as the API would return it: times in seconds, and containers' last words within bounds.
func normalize(pod *corev1.Pod, s *corev1.PodStatus) {
	most := kubecontainer.MaxPodTerminationMessageLogLength
	if n := len(pod.Spec.Containers) + len(pod.Spec.InitContainers) + len(pod.Spec.EphemeralContainers); n > 0 {
		most /= n
	}
	state := func(c *corev1.ContainerState) {
		if c.Running != nil {
			c.Running.StartedAt = c.Running.StartedAt.Rfc3339Copy()
		}
		if t := c.Terminated; t != nil {
			t.StartedAt, t.FinishedAt = t.StartedAt.Rfc3339Copy(), t.FinishedAt.Rfc3339Copy()
			t.Message = t.Message[:min(len(t.Message), most)]
		}
	}
	if s.StartTime != nil {
		start := s.StartTime.Rfc3339Copy()
		s.StartTime = &start
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.LastProbeTime, c.LastTransitionTime = c.LastProbeTime.Rfc3339Copy(), c.LastTransitionTime.Rfc3339Copy()
	}
	for _, list := range [][]corev1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			state(&list[i].State)
			state(&list[i].LastTerminationState)
		}
	}
	slices.SortFunc(s.ContainerStatuses, byName)
	kubetypes.SortInitContainerStatuses(pod, s.InitContainerStatuses)
	slices.SortFunc(s.EphemeralContainerStatuses, byName)
}

func byName(a, b corev1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) }
