package cri

import (
	"encoding/json"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubelet/pkg/types"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

// Annotations that tell an agent which began later what it is to know of a container.
const (
	hashAnnotation          = "io.kubernetes.container.hash"
	restartsAnnotation      = "io.kubernetes.container.restartCount"
	messagePathAnnotation   = "io.kubernetes.container.terminationMessagePath"
	messagePolicyAnnotation = "io.kubernetes.container.terminationMessagePolicy"
	preStopAnnotation       = "io.kubernetes.container.preStopHandler"
	portsAnnotation         = "io.kubernetes.container.ports"
	deletionAnnotation      = "io.kubernetes.pod.deletionGracePeriod"
	terminationAnnotation   = "io.kubernetes.pod.terminationGracePeriod"
)

func itoa(n int) string { return strconv.Itoa(n) }

func (p *Pod) labels() map[string]string {
	labels := maps.Clone(p.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	return p.identify(labels)
}

func (p *Pod) identify(labels map[string]string) map[string]string {
	labels[types.KubernetesPodNameLabel] = p.Name
	labels[types.KubernetesPodNamespaceLabel] = p.Namespace
	labels[types.KubernetesPodUIDLabel] = string(p.UID)
	return labels
}

func (c *Container) labels() map[string]string {
	return c.identify(map[string]string{types.KubernetesContainerNameLabel: c.Spec.Name})
}

func (c *Container) annotations() map[string]string {
	a := map[string]string{
		hashAnnotation:          strconv.FormatUint(kubecontainer.HashContainer(c.Spec), 16),
		restartsAnnotation:      itoa(c.Attempt),
		messagePathAnnotation:   c.Spec.TerminationMessagePath,
		messagePolicyAnnotation: string(c.Spec.TerminationMessagePolicy),
	}
	if s := c.DeletionGracePeriodSeconds; s != nil {
		a[deletionAnnotation] = strconv.FormatInt(*s, 10)
	}
	if s := c.Pod.Spec.TerminationGracePeriodSeconds; s != nil {
		a[terminationAnnotation] = strconv.FormatInt(*s, 10)
	}
	if l := c.Spec.Lifecycle; l != nil && l.PreStop != nil {
		a[preStopAnnotation] = mustJSON(l.PreStop)
	}
	if len(c.Spec.Ports) > 0 {
		a[portsAnnotation] = mustJSON(c.Spec.Ports)
	}
	return a
}

// mustJSON encodes an API type, which always can be.
func mustJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// Left is what a container's annotations tell of a pod that the API no longer has.
func Left(labels, annotations map[string]string) (*corev1.Pod, *corev1.Container) {
	pod := &corev1.Pod{}
	pod.Name, pod.Namespace = labels[types.KubernetesPodNameLabel], labels[types.KubernetesPodNamespaceLabel]
	pod.UID = uid(labels)
	pod.DeletionGracePeriodSeconds = number(annotations, deletionAnnotation)
	pod.Spec.TerminationGracePeriodSeconds = number(annotations, terminationAnnotation)
	c := &corev1.Container{
		Name: labels[types.KubernetesContainerNameLabel], TerminationMessagePath: annotations[messagePathAnnotation],
		TerminationMessagePolicy: corev1.TerminationMessagePolicy(annotations[messagePolicyAnnotation]),
	}
	if text, ok := annotations[preStopAnnotation]; ok {
		var hook corev1.LifecycleHandler
		if json.Unmarshal([]byte(text), &hook) == nil {
			c.Lifecycle = &corev1.Lifecycle{PreStop: &hook}
		}
	}
	if text, ok := annotations[portsAnnotation]; ok {
		_ = json.Unmarshal([]byte(text), &c.Ports) // without them a hook by a port's name fails, and says so
	}
	pod.Spec.Containers = []corev1.Container{*c}
	return pod, c
}

func number(annotations map[string]string, key string) *int64 {
	n, err := strconv.ParseInt(annotations[key], 10, 64)
	if err != nil {
		return nil
	}
	return &n
}
