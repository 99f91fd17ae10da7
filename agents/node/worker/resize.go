package worker

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
