package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
)

// Writer tells the API how pods fare. It keeps what it was told last, and says it until the API has it; what the API has already is
// not said again.
type Writer struct {
	client kubernetes.Interface
	api    func(types.UID) *corev1.Pod
	mayRun func(types.UID) bool
	log    *slog.Logger
	meter  Meter // nil: nothing is counted
	queue  workqueue.TypedRateLimitingInterface[types.UID]

	mu   sync.Mutex
	pods map[types.UID]*told
}

// told is what is to be said of a pod.
type told struct {
	status   *corev1.PodStatus // nil: nothing yet
	finished bool              // nothing more will be said
	resize   resizeState
	written  *written
}

// Bounds of the wait before a status that the API did not take is sent again.
const (
	firstSend = 200 * time.Millisecond
	lastSend  = 10 * time.Second
)

// senders is how many statuses are on their way at once.
const senders = 4

func newWriter(client kubernetes.Interface, api func(types.UID) *corev1.Pod, mayRun func(types.UID) bool, log *slog.Logger) *Writer {
	return &Writer{
		client: client, api: api, mayRun: mayRun, log: log, pods: map[types.UID]*told{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](firstSend, lastSend)),
	}
}

func (w *Writer) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for {
				uid, stop := w.queue.Get()
				if stop {
					return
				}
				if err := w.send(ctx, uid); err != nil && ctx.Err() == nil {
					w.log.Warn("Status of a pod was not taken, and is sent again", "podUID", uid, "error", err)
					w.queue.AddRateLimited(uid)
				} else {
					w.queue.Forget(uid)
				}
				w.queue.Done(uid)
			}
		})
	}
	<-ctx.Done()
	w.queue.ShutDown()
	wg.Wait()
}

// Get is what was told last.
func (w *Writer) Get(uid types.UID) (*corev1.PodStatus, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.pods[uid]; t != nil && t.status != nil {
		return t.status, true
	}
	return nil, false
}

// Changed says that the API has something else of the pod than before.
func (w *Writer) Changed(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.pods[uid]
	if t == nil || t.status == nil {
		return
	}
	if api := w.api(uid); api != nil && t.written.covers(api) && api.DeletionTimestamp == nil {
		return // it is what was written
	}
	w.queue.Add(uid)
}

// Forget forgets a pod that the API does not have any more.
func (w *Writer) Forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pods, uid)
}

// Set says how the pod fares.
func (w *Writer) Set(pod *corev1.Pod, status *corev1.PodStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(pod, status, pod.DeletionTimestamp != nil, false)
}

// Reject says that the pod cannot be on this node.
func (w *Writer) Reject(pod *corev1.Pod, reason, message string) {
	w.Set(pod, &corev1.PodStatus{QOSClass: pod.Status.QOSClass, Phase: corev1.PodFailed, Reason: reason, Message: "Pod was rejected: " + message})
}

// Finish says that nothing of the pod is left: from now on it can be deleted. Containers whose end nobody saw have failed.
func (w *Writer) Finish(pod *corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	status := pod.Status.DeepCopy()
	if t := w.pods[pod.UID]; t != nil && t.status != nil {
		status = t.status.DeepCopy()
	}
	if initialized(pod) {
		lost(status.ContainerStatuses)
	}
	lost(begun(status.InitContainerStatuses))
	if !kubetypes.IsStaticPod(pod) && !over(status.Phase) {
		status.Phase = corev1.PodFailed
	}
	w.set(pod, status, true, true)
}

func (w *Writer) set(pod *corev1.Pod, status *corev1.PodStatus, force, finished bool) {
	t := w.pods[pod.UID]
	if t == nil {
		t = &told{}
		w.pods[pod.UID] = t
	}
	status = status.DeepCopy()
	if status.QOSClass == "" {
		status.QOSClass = pod.Status.QOSClass
	}
	status.ObservedGeneration = podutil.CalculatePodStatusObservedGeneration(pod)
	old := t.status
	switch {
	case old != nil:
		finished = finished || t.finished && !kubetypes.IsStaticPod(pod)
	case kubetypes.IsStaticPod(pod) && w.api(pod.UID) != nil:
		old = &w.api(pod.UID).Status
	default:
		old = &pod.Status
	}
	if err := legal(pod, old, status); err != nil {
		w.log.Error("Status of a pod was not possible", "pod", fullName(pod), "podUID", pod.UID, "error", err)
		return
	}
	for _, kind := range dated {
		date(status, old, kind)
	}
	switch {
	case !old.StartTime.IsZero():
		status.StartTime = old.StartTime.DeepCopy()
	case status.StartTime.IsZero():
		now := metav1.Now()
		status.StartTime = &now
	}
	status.ObservedGeneration = max(status.ObservedGeneration, old.ObservedGeneration)
	normalize(pod, status)
	if t.status != nil && !force && t.finished == finished && same(t.status, status) {
		return
	}
	if w.meter != nil {
		meterEnds(w.meter, "init_container", old.InitContainerStatuses, status.InitContainerStatuses)
		meterEnds(w.meter, "container", old.ContainerStatuses, status.ContainerStatuses)
	}
	t.status, t.finished = status, finished
	w.queue.Add(pod.UID)
}

// dated are the conditions whose changes have a time.
var dated = []corev1.PodConditionType{
	corev1.ContainersReady, corev1.PodReady, corev1.PodInitialized, corev1.PodReadyToStartContainers, corev1.PodScheduled,
	corev1.DisruptionTarget, corev1.AllContainersRestarting,
}

// date sets when the condition became what it is.
func date(status, old *corev1.PodStatus, kind corev1.PodConditionType) {
	_, c := podutil.GetPodCondition(status, kind)
	if c == nil {
		return
	}
	c.LastTransitionTime = metav1.Now()
	if _, before := podutil.GetPodCondition(old, kind); before != nil && before.Status == c.Status {
		c.LastTransitionTime = before.LastTransitionTime
	}
}

// lost ends containers whose end nobody saw.
func lost(statuses []corev1.ContainerStatus) {
	for i := range statuses {
		if statuses[i].State.Terminated == nil {
			statuses[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				Reason: "ContainerStatusUnknown", Message: "The container could not be located when the pod was terminated", ExitCode: 137,
			}}
		}
	}
}

// initialized tells whether there is a sign of the pod's containers having been started.
func initialized(pod *corev1.Pod) bool {
	init := pod.Spec.InitContainers
	if len(init) == 0 {
		return true
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.LastTerminationState.Terminated != nil || s.State.Waiting == nil {
			return true
		}
	}
	statuses := pod.Status.InitContainerStatuses
	if len(statuses) == 0 {
		return false
	}
	s := &statuses[len(statuses)-1]
	i := slices.IndexFunc(init, func(c corev1.Container) bool { return c.Name == s.Name })
	switch {
	case i < 0:
		return false
	case podutil.IsRestartableInitContainer(&init[i]):
		return s.State.Running != nil && s.Started != nil && *s.Started
	}
	ended := func(t *corev1.ContainerStateTerminated) bool { return t != nil && t.ExitCode == 0 }
	return ended(s.LastTerminationState.Terminated) || ended(s.State.Terminated)
}

// begun are init containers without the last ones that never began; the first one is always among them.
func begun(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	for i := len(statuses) - 1; i >= 0; i-- {
		if statuses[i].State.Waiting == nil || statuses[i].LastTerminationState.Terminated != nil {
			return statuses[:i+1]
		}
	}
	return statuses[:min(1, len(statuses))]
}

// legal refuses to have a container run again that has ended for good.
func legal(pod *corev1.Pod, old, status *corev1.PodStatus) error {
	if pod.Spec.RestartPolicy == corev1.RestartPolicyAlways || podutil.AllContainersCouldRestart(&pod.Spec) {
		return nil
	}
	check := func(specs []corev1.Container, before, after []corev1.ContainerStatus) error {
		for _, s := range before {
			i := slices.IndexFunc(specs, func(c corev1.Container) bool { return c.Name == s.Name })
			j := slices.IndexFunc(after, func(a corev1.ContainerStatus) bool { return a.Name == s.Name })
			end := s.State.Terminated
			if end == nil || i < 0 || j < 0 || after[j].State.Terminated != nil || podutil.IsRestartableInitContainer(&specs[i]) ||
				end.ExitCode != 0 && pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure ||
				podutil.ContainerShouldRestart(specs[i], pod.Spec, end.ExitCode) {
				continue
			}
			return fmt.Errorf("terminated container %v attempted illegal transition to non-terminated state", s.Name)
		}
		return nil
	}
	if err := check(pod.Spec.Containers, old.ContainerStatuses, status.ContainerStatuses); err != nil {
		return err
	}
	return check(pod.Spec.InitContainers, old.InitContainerStatuses, status.InitContainerStatuses)
}

// same tells whether two statuses say the same of what is the node's to say.
func same(a, b *corev1.PodStatus) bool {
	ours := func(s *corev1.PodStatus) map[corev1.PodConditionType]corev1.PodCondition {
		out := map[corev1.PodConditionType]corev1.PodCondition{}
		for _, c := range s.Conditions {
			if kubetypes.PodConditionByKubelet(c.Type) || kubetypes.PodConditionSharedByKubelet(c.Type) {
				out[c.Type] = corev1.PodCondition{Status: c.Status, Reason: c.Reason, Message: c.Message}
			}
		}
		return out
	}
	if !apiequality.Semantic.DeepEqual(ours(a), ours(b)) {
		return false
	}
	x := *a
	x.Conditions, x.ResourceClaimStatuses = b.Conditions, b.ResourceClaimStatuses
	x.ExtendedResourceClaimStatus = b.ExtendedResourceClaimStatus
	x.NodeAllocatableResourceClaimStatuses = b.NodeAllocatableResourceClaimStatuses
	return apiequality.Semantic.DeepEqual(&x, b)
}
