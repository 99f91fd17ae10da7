package cri

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/kuberuntime/util"
)

// Sandbox is the pod's sandbox. The error is upstream's, about a value that no API server lets through.
func (p *Pod) Sandbox() (*runtimeapi.PodSandboxConfig, error) {
	config := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace, Uid: string(p.UID), Attempt: p.Attempt},
		Labels:       p.labels(),
		Annotations:  p.Annotations,
		DnsConfig:    p.DNS,
		LogDirectory: p.LogDirectory(),
		PortMappings: portMappings(p.Pod),
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: p.CgroupParent,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				Privileged:       kubecontainer.HasPrivilegedContainer(p.Pod),
				Seccomp:          &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
				NamespaceOptions: p.namespaces(),
			},
			Sysctls: map[string]string{},
		},
	}
	if !kubecontainer.IsHostNetworkPod(p.Pod) {
		config.Hostname = p.Hostname
	}
	opts := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
	requests, limits := resourcehelper.PodRequests(p.Pod, opts), resourcehelper.PodLimits(p.Pod, opts)
	config.Linux.Resources = p.resources(amount(requests, corev1.ResourceCPU), limits.Cpu(), limits.Memory())
	config.Linux.Overhead = &runtimeapi.LinuxContainerResources{}
	if o := p.Spec.Overhead; o != nil {
		config.Linux.Overhead = p.resources(o.Cpu(), o.Cpu(), o.Memory())
	}
	sc := p.Spec.SecurityContext
	if sc == nil {
		return config, nil
	}
	for _, s := range sc.Sysctls { // runc knows the names with dots only
		config.Linux.Sysctls[strings.ReplaceAll(s.Name, "/", ".")] = s.Value
	}
	to := config.Linux.SecurityContext
	if sc.RunAsUser != nil {
		to.RunAsUser = &runtimeapi.Int64Value{Value: *sc.RunAsUser}
	}
	if sc.RunAsGroup != nil {
		to.RunAsGroup = &runtimeapi.Int64Value{Value: *sc.RunAsGroup}
	}
	to.SelinuxOptions = selinux(sc.SELinuxOptions)
	var err error
	to.SupplementalGroups, to.SupplementalGroupsPolicy, err = p.groups()
	return config, err
}

// groups are those that the pod's processes have besides their own.
func (p *Pod) groups() (groups []int64, policy runtimeapi.SupplementalGroupsPolicy, err error) {
	sc := p.Spec.SecurityContext
	if sc == nil {
		return p.ExtraGroups, 0, nil
	}
	if sc.FSGroup != nil {
		groups = append(groups, *sc.FSGroup)
	}
	groups = append(groups, sc.SupplementalGroups...)
	groups = append(groups, p.ExtraGroups...)
	if sc.SupplementalGroupsPolicy != nil {
		value, ok := runtimeapi.SupplementalGroupsPolicy_value[string(*sc.SupplementalGroupsPolicy)]
		if !ok {
			return nil, 0, fmt.Errorf("unsupported supplementalGroupsPolicy: %s", *sc.SupplementalGroupsPolicy)
		}
		policy = runtimeapi.SupplementalGroupsPolicy(value)
	}
	return groups, policy, nil
}

// namespaces are set in sandbox and containers alike: runtimes differ in what they take for not said.
func (p *Pod) namespaces() *runtimeapi.NamespaceOption {
	return &runtimeapi.NamespaceOption{
		Ipc: util.IpcNamespaceForPod(p.Pod), Network: util.NetworkNamespaceForPod(p.Pod), Pid: util.PidNamespaceForPod(p.Pod),
		UsernsOptions: p.Users,
	}
}

func portMappings(pod *corev1.Pod) []*runtimeapi.PortMapping {
	var mappings []*runtimeapi.PortMapping
	for i := range pod.Spec.Containers {
		for _, port := range pod.Spec.Containers[i].Ports {
			mappings = append(mappings, &runtimeapi.PortMapping{
				HostIp: port.HostIP, HostPort: port.HostPort, ContainerPort: port.ContainerPort, Protocol: protocol(port.Protocol),
			})
		}
	}
	return mappings
}

func protocol(p corev1.Protocol) runtimeapi.Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return runtimeapi.Protocol_UDP
	case corev1.ProtocolSCTP:
		return runtimeapi.Protocol_SCTP
	default:
		return runtimeapi.Protocol_TCP
	}
}

// amount is nil where the list does not say.
func amount(list corev1.ResourceList, name corev1.ResourceName) *resource.Quantity {
	if q, ok := list[name]; ok {
		return &q
	}
	return nil
}
