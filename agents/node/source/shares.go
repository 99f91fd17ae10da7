package source

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"slices"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	"k8s.io/kubernetes/pkg/kubelet/events"
)

// shares are the resources that pods were allotted, by the names of their containers, and the pods' own (KEP-5419) by none. A pod that asks
// for others later has what it was allotted until there is room (KEP-1287). They outlive the agent.
type shares struct {
	path string
	pods map[types.UID]map[string]corev1.ResourceRequirements
}

func readShares(path string) (*shares, error) {
	s := &shares{path: path, pods: map[types.UID]map[string]corev1.ResourceRequirements{}}
	if path == "" {
		return s, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	var pods map[types.UID]map[string]corev1.ResourceRequirements
	if err == nil {
		err = json.Unmarshal(data, &pods)
	}
	if err == nil && pods != nil {
		s.pods = pods
	}
	return s, err
}

func (s *Source) save() {
	if err := s.shares.write(); err != nil {
		s.Log.Warn("What pods were allotted was not written down", "error", err)
	}
}

func (s *shares) write() error {
	if s.path == "" {
		return nil
	}
	data, err := json.Marshal(s.pods)
	if err != nil {
		return err
	}
	next := s.path + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.path)
}

func (s *shares) has(uid types.UID) bool { return s.pods[uid] != nil }

func (s *shares) take(uid types.UID) { delete(s.pods, uid) }

func (s *shares) keep(wanted func(types.UID) bool) {
	for uid := range s.pods {
		if !wanted(uid) {
			delete(s.pods, uid)
		}
	}
}

// give allots what the pod asks for.
func (s *shares) give(pod *corev1.Pod) {
	share := map[string]corev1.ResourceRequirements{}
	for c := range podutil.ContainerIter(&pod.Spec, podutil.InitContainers|podutil.Containers) {
		share[c.Name] = *c.Resources.DeepCopy()
	}
	if pod.Spec.Resources != nil {
		share[""] = *pod.Spec.Resources.DeepCopy()
	}
	s.pods[pod.UID] = share
}

// of is the pod with what it was allotted.
func (s *shares) of(pod *corev1.Pod) *corev1.Pod {
	share := s.pods[pod.UID]
	if share == nil || !s.differs(pod) {
		return pod
	}
	pod = pod.DeepCopy()
	for c := range podutil.ContainerIter(&pod.Spec, podutil.InitContainers|podutil.Containers) {
		if had, ok := share[c.Name]; ok {
			c.Resources = *had.DeepCopy()
		}
	}
	pod.Spec.Resources = nil
	if had, ok := share[""]; ok {
		pod.Spec.Resources = had.DeepCopy()
	}
	return pod
}

// differs: the pod asks for something else than it was allotted.
func (s *shares) differs(pod *corev1.Pod) bool {
	share := s.pods[pod.UID]
	for c := range podutil.ContainerIter(&pod.Spec, podutil.InitContainers|podutil.Containers) {
		had, ok := share[c.Name]
		if ok && (!equality.Semantic.DeepEqual(had.Limits, c.Resources.Limits) || !equality.Semantic.DeepEqual(had.Requests, c.Resources.Requests)) {
			return true
		}
	}
	var own corev1.ResourceRequirements
	if pod.Spec.Resources != nil {
		own = *pod.Spec.Resources
	}
	had := share[""]
	return share != nil && (!equality.Semantic.DeepEqual(had.Limits, own.Limits) || !equality.Semantic.DeepEqual(had.Requests, own.Requests))
}

// allot gives the pod what it asks for, when there is room. It tells whether the pod has something else than before.
func (s *Source) allot(pod *corev1.Pod) bool {
	if !s.shares.has(pod.UID) || !s.shares.differs(pod) {
		s.statuses.ResizeAllotted(pod.UID)
		return false
	}
	others := slices.DeleteFunc(s.workers.Active(), func(other *corev1.Pod) bool { return other.UID == pod.UID })
	reason, message := s.Admit(pod, others, true)
	if reason != "" && reason != corev1.PodReasonInfeasible {
		reason = corev1.PodReasonDeferred
	}
	if reason == "" {
		s.shares.give(pod)
		s.save()
		s.statuses.ResizeAllotted(pod.UID)
		s.Events.Event(pod, corev1.EventTypeNormal, events.ResizeStarted, events.PodResizeStartedMsg(logr.Discard(), pod, pod.Generation))
		return true
	}
	if s.statuses.ResizePending(pod.UID, reason, message, pod.Generation) {
		kind := events.ResizeDeferred
		if reason == corev1.PodReasonInfeasible {
			kind = events.ResizeInfeasible
		}
		s.Events.Event(pod, corev1.EventTypeWarning, kind,
			events.PodResizePendingMsg(logr.Discard(), pod, reason, message, pod.Generation))
		s.workers.Changed(pod.UID)
	}
	return false
}

// Retry gives pods what they ask for that there was no room for before.
func (s *Source) Retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retry()
}

func (s *Source) retry() {
	var waiting []*corev1.Pod
	for _, w := range s.wanted {
		if !w.rejected && w.pod.DeletionTimestamp == nil && !isOver(w.pod) && s.shares.has(w.pod.UID) && s.shares.differs(w.pod) {
			waiting = append(waiting, w.pod)
		}
	}
	slices.SortFunc(waiting, func(a, b *corev1.Pod) int { // who makes room, by priority, by class, and who came first
		return cmp.Or(
			order(s.grows(a), s.grows(b)), cmp.Compare(priority(b), priority(a)),
			order(qos.GetPodQOS(a) != corev1.PodQOSGuaranteed, qos.GetPodQOS(b) != corev1.PodQOSGuaranteed), a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		)
	})
	for _, pod := range waiting {
		if s.allot(pod) {
			s.workers.Set(s.shares.of(pod))
		}
	}
}

// order puts those last of which something is so.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// grows: the pod asks for more than it was allotted.
func (s *Source) grows(pod *corev1.Pod) bool {
	has := resourcehelper.PodRequests(s.shares.of(pod), resourcehelper.PodResourcesOptions{})
	asks := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	return asks.Cpu().Cmp(*has.Cpu()) > 0 || asks.Memory().Cmp(*has.Memory()) > 0
}

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}
