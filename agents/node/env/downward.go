package env

import (
	"errors"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/kubernetes/pkg/api/v1/resource"
	podshelper "k8s.io/kubernetes/pkg/apis/core/pods"
	"k8s.io/kubernetes/pkg/fieldpath"
)

// field is what the pod is asked to tell of itself.
func (m *maker) field(ref *corev1.ObjectFieldSelector) (string, error) {
	path, _, err := podshelper.ConvertDownwardAPIFieldLabel(ref.APIVersion, ref.FieldPath, "")
	if err != nil {
		return "", err
	}
	switch path {
	case "spec.nodeName":
		return m.pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return m.pod.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		var ips []string
		for _, ip := range m.NodeIPs() {
			ips = append(ips, ip.String())
		}
		switch {
		case len(ips) == 0:
			return "", errors.New("the node's addresses are not known")
		case path == "status.hostIP":
			return ips[0], nil
		}
		return strings.Join(ips, ","), nil
	case "status.podIP":
		for _, ip := range ordered(m.ips, m.NodeIPs()) {
			return ip, nil
		}
		return "", nil
	case "status.podIPs":
		return strings.Join(ordered(m.ips, m.NodeIPs()), ","), nil
	}
	return fieldpath.ExtractFieldPathAsString(m.pod, path)
}

// ordered are at most one of each family, that of the node's first address first.
func ordered(ips []string, node []netip.Addr) []string {
	var of [2]string // of the node's family, and of the other
	six := len(node) > 0 && node[0].Is6()
	for _, text := range ips {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		i := 0
		if ip.Is6() != six {
			i = 1
		}
		if of[i] == "" {
			of[i] = ip.String()
		}
	}
	var out []string
	for _, ip := range of {
		if ip != "" {
			out = append(out, ip)
		}
	}
	return out
}

// resource is a request or a limit of a container of the pod.
func (m *maker) resource(ref *corev1.ResourceFieldSelector) (string, error) {
	pod, c, err := Limited(m.pod, m.container, m.Allocatable())
	if err != nil {
		return "", err
	}
	if ref.ContainerName == "" {
		return resource.ExtractContainerResourceValue(ref, c)
	}
	return resource.ExtractResourceValueByContainerName(ref, pod, ref.ContainerName)
}

// Limited returns copies in which the pod's containers, and the one given if it is, have limits: where they have none of their own,
// the pod's, and else all that the node has for pods.
func Limited(pod *corev1.Pod, c *corev1.Container, allocatable corev1.ResourceList) (*corev1.Pod, *corev1.Container, error) {
	if allocatable == nil {
		return nil, nil, errors.New("failed to find node object, expected a node")
	}
	if resourcehelper.IsPodLevelLimitsSet(pod) {
		allocatable = allocatable.DeepCopy()
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, limited := pod.Spec.Resources.Limits[name]
			if _, ok := allocatable[name]; ok && limited && !limit.IsZero() {
				allocatable[name] = limit.DeepCopy()
			}
		}
	}
	pod = pod.DeepCopy()
	for i := range pod.Spec.Containers {
		resource.MergeContainerResourceLimits(&pod.Spec.Containers[i], allocatable)
	}
	if c != nil {
		c = c.DeepCopy()
		resource.MergeContainerResourceLimits(c, allocatable)
	}
	return pod, c, nil
}
