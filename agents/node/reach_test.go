package node

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestReach: the server is connected to pods that run here and to nothing else, whatever it asks for.
func TestReach(t *testing.T) {
	t.Parallel()
	of := func(uid types.UID, inNode bool, ports ...corev1.ContainerPort) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Spec: corev1.PodSpec{HostNetwork: inNode, Containers: []corev1.Container{{Ports: ports}}}}
	}
	at := func(phase corev1.PodPhase, ips ...string) *corev1.PodStatus {
		s := &corev1.PodStatus{Phase: phase}
		for _, ip := range ips {
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
		}
		return s
	}
	said := of("said", false)
	said.Status = *at(corev1.PodRunning, "10.0.0.66") // in the API, by whoever may write there
	sidecar := of("sidecar", true)
	sidecar.Spec.InitContainers = []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 9101}}}}
	pods := []*corev1.Pod{
		of("runs", false), of("starts", false), of("ended", false), of("failed", false), said, sidecar,
		of("host", true, corev1.ContainerPort{ContainerPort: 9100, Protocol: corev1.ProtocolTCP}, corev1.ContainerPort{ContainerPort: 53, Protocol: corev1.ProtocolUDP}),
		of("odd", false),
	}
	statuses := map[types.UID]*corev1.PodStatus{
		"runs": at(corev1.PodRunning, "10.0.0.1", "fd00::1"), "starts": at(corev1.PodPending, "10.0.0.2"), "ended": at(corev1.PodSucceeded, "10.0.0.3"),
		"failed": at(corev1.PodFailed, "10.0.0.4"), "said": at(corev1.PodRunning, "10.0.0.5"), "host": at(corev1.PodRunning, "192.168.1.10"),
		"sidecar": at(corev1.PodRunning, "192.168.1.10"), "odd": at(corev1.PodRunning, "127.0.0.1", "169.254.169.254", "0.0.0.0", "x"),
	}
	status := func(uid types.UID) (*corev1.PodStatus, bool) { s, ok := statuses[uid]; return s, ok }
	for address, want := range map[string]bool{
		"10.0.0.1:80": true, "[fd00::1]:80": true, "[::ffff:10.0.0.1]:80": true, "10.0.0.2:1": true,
		"10.0.0.1:0": false, "10.0.0.3:80": false, "10.0.0.4:80": false, "10.0.0.5:80": true, "10.0.0.66:80": false, "10.0.0.99:80": false,
		"192.168.1.10:9100": true, "192.168.1.10:9101": true, "192.168.1.10:53": false, "192.168.1.10:10250": false, "192.168.1.10:22": false,
		"127.0.0.1:9100": false, "169.254.169.254:80": false, "0.0.0.0:80": false, "[fd00::1%eth0]:80": false,
	} {
		if got := ofPod(pods, status, netip.MustParseAddrPort(address)); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
	if ofPod([]*corev1.Pod{said}, func(types.UID) (*corev1.PodStatus, bool) { return nil, false }, netip.MustParseAddrPort("10.0.0.66:80")) {
		t.Error("a pod of which the runtime has said nothing yet")
	}
}
