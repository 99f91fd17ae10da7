package eviction

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	upstream "k8s.io/kubernetes/pkg/kubelet/eviction"
	"k8s.io/kubernetes/pkg/kubelet/eviction/api"
	"k8s.io/utils/ptr"
)

// atOnce is the grace period, in seconds, of a pod that cannot be waited for.
const atOnce = 1

// victim is a pod that is to be evicted, and what is said of it.
type victim struct {
	pod         *corev1.Pod
	signal      string
	message     string
	annotations map[string]string
	condition   *corev1.PodCondition // nil: it had too much, whatever the node has
	grace       *int64               // nil: as long as it has
}

// victims are all pods, in the order in which they are to be evicted until one is, for the most urgent of the thresholds that are due.
func (l Layout) victims(pods []*corev1.Pod, of usage, due []api.Threshold, seen observations, maxGrace int64) []victim {
	t := &due[0]
	pods = slices.Clone(pods)
	l.rank(pods, of, t.Signal)
	all := make([]victim, 0, len(pods))
	for _, pod := range pods {
		message, annotations := explain(about(t).resource, pod, of[pod.UID], due, seen)
		grace := ptr.To[int64](atOnce)
		if !hard(t) {
			grace = bounded(pod, maxGrace)
		}
		all = append(all, victim{pod: pod, signal: string(t.Signal), message: message, annotations: annotations, grace: grace, condition: &corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: message,
			ObservedGeneration: podutil.CalculatePodConditionObservedGeneration(&pod.Status, pod.Generation, corev1.DisruptionTarget),
		}})
	}
	return all
}

// bounded is a pod's grace period, but for what the operator allows; negative: all.
func bounded(pod *corev1.Pod, most int64) *int64 {
	switch own := pod.Spec.TerminationGracePeriodSeconds; {
	case most < 0:
		return nil
	case own != nil:
		return ptr.To(min(most, *own))
	}
	return &most
}

// explain says in upstream's words why a pod is evicted.
func explain(
	name corev1.ResourceName, pod *corev1.Pod, used *statsapi.PodStats, due []api.Threshold, seen observations,
) (message string, annotations map[string]string) {
	var text strings.Builder
	annotations = map[string]string{}
	fmt.Fprintf(&text, "The node was low on resource: %v. ", name)
	for i := range due {
		if o, ok := seen[due[i].Signal]; ok && about(&due[i]).resource == name {
			fmt.Fprintf(&text, "Threshold quantity: %v, available: %v. ", api.GetThresholdQuantity(due[i].Value, o.capacity), o.available)
			break
		}
	}
	if used == nil {
		return text.String(), annotations
	}
	const larger = "%s %s was using %s, request is %s, has larger consumption of %v. "
	if name == corev1.ResourceMemory && resourcehelper.IsPodLevelResourcesSet(pod) && used.Memory != nil {
		if request, ok := pod.Spec.Resources.Requests[name]; ok {
			q := memoryOf(pod, used)
			fmt.Fprintf(&text, larger, "Pod", pod.Name, q.String(), request.String(), name)
			annotations[upstream.OffendingPodKey], annotations[upstream.OffendingPodUsageKey] = pod.Name, q.String()
		}
	}
	var exceeding, by []string
	for i := range used.Containers {
		c := &used.Containers[i]
		spec := container(pod, c.Name)
		q, ok := containerUse(name, c)
		if spec == nil || !ok {
			continue
		}
		if request := spec.Resources.Requests[name]; q.Cmp(request) > 0 {
			fmt.Fprintf(&text, larger, "Container", c.Name, q.String(), request.String(), name)
			exceeding, by = append(exceeding, c.Name), append(by, q.String())
		}
	}
	annotations[upstream.OffendingContainersKey] = strings.Join(exceeding, ",")
	annotations[upstream.OffendingContainersUsageKey] = strings.Join(by, ",")
	annotations[upstream.StarvedResourceKey] = string(name)
	return text.String(), annotations
}

// container is the one of this name; nil: there is none that can request anything.
func container(pod *corev1.Pod, name string) *corev1.Container {
	for c := range podutil.ContainerIter(&pod.Spec, podutil.Containers|podutil.InitContainers) {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// containerUse is what a container uses; false: that was not measured.
func containerUse(name corev1.ResourceName, c *statsapi.ContainerStats) (resource.Quantity, bool) {
	switch {
	case name == corev1.ResourceMemory && c.Memory != nil && c.Memory.WorkingSetBytes != nil:
		return bytesOf(c.Memory.WorkingSetBytes), true
	case name == corev1.ResourceEphemeralStorage && c.Rootfs != nil && c.Rootfs.UsedBytes != nil && c.Logs != nil && c.Logs.UsedBytes != nil:
		return bytesOf(ptr.To(*c.Rootfs.UsedBytes + *c.Logs.UsedBytes)), true
	}
	return resource.Quantity{}, false
}
