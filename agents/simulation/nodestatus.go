package simulation

import (
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	nodeOS   = "linux"
	nodeArch = "amd64"

	kubeletPort = 10250
)

// nodeStatus is what a node's kubelet would say at the time. What somebody gave a node as its size stays, and a resource of
// which nothing else is said may be used whole.
func nodeStatus(node *corev1.Node, version string, now metav1.Time) corev1.NodeStatus {
	s := *node.Status.DeepCopy()
	if len(s.Capacity) == 0 {
		s.Capacity = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi"),
			corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		}
	}
	if s.Allocatable == nil {
		s.Allocatable = corev1.ResourceList{}
	}
	for name, quantity := range s.Capacity {
		if _, given := s.Allocatable[name]; !given {
			s.Allocatable[name] = quantity.DeepCopy()
		}
	}
	for name := range s.Allocatable {
		if _, there := s.Capacity[name]; !there {
			delete(s.Allocatable, name)
		}
	}
	if len(s.Addresses) == 0 {
		s.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: nodeAddress(node.Name).String()}, {Type: corev1.NodeHostName, Address: node.Name},
		}
	}
	s.DaemonEndpoints.KubeletEndpoint.Port = kubeletPort
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(node.Name)))[:32]
	s.NodeInfo = corev1.NodeSystemInfo{
		MachineID: id, SystemUUID: id, BootID: id, KernelVersion: "6.12.0", OSImage: "simulated", ContainerRuntimeVersion: "simulated://1.0.0",
		KubeletVersion: version, OperatingSystem: nodeOS, Architecture: nodeArch,
	}
	for _, c := range []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"},
		{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"},
		{Type: corev1.NodePIDPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"},
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "no kubelet: the node is simulated"},
	} {
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		at := len(s.Conditions)
		for i, before := range s.Conditions {
			if before.Type == c.Type {
				at = i
				if before.Status == c.Status {
					c.LastTransitionTime = before.LastTransitionTime
				}
			}
		}
		s.Conditions = append(s.Conditions[:at], append([]corev1.NodeCondition{c}, s.Conditions[min(at+1, len(s.Conditions)):]...)...)
	}
	return s
}

// kubeletCondition tells of a condition that it is one of those that a kubelet writes.
func kubeletCondition(t corev1.NodeConditionType) bool {
	return t == corev1.NodeReady || t == corev1.NodeMemoryPressure || t == corev1.NodeDiskPressure || t == corev1.NodePIDPressure
}

// heartbeat is when the node last wrote its status.
func heartbeat(node *corev1.Node) metav1.Time {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.LastHeartbeatTime
		}
	}
	return metav1.Time{}
}

func setHeartbeats(s *corev1.NodeStatus, t metav1.Time) {
	for i := range s.Conditions {
		if kubeletCondition(s.Conditions[i].Type) {
			s.Conditions[i].LastHeartbeatTime = t
		}
	}
}

// nodeAddress is in 198.18.0.0/15, which is for tests of networks and led nowhere: nobody may be asked by mistake. The first
// half is for the nodes that the simulation made, one each; in the other half two may have the same.
func nodeAddress(name string) netip.Addr {
	third, number := byte(18), uint32(0)
	if i, ours := own(name); ours && i < MaxNodes {
		number = uint32(i) + 1 //nolint:gosec // checked
	} else {
		h := fnv.New32a()
		_, _ = h.Write([]byte(name))
		third, number = 19, h.Sum32()
	}
	return netip.AddrFrom4([4]byte{198, third, byte(number >> 8), byte(number)})
}
