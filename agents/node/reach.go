package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rowlock-io/rowlock/tunnel"
)

// podDial bounds the wait for a pod, which is on this machine.
const podDial = 10 * time.Second

// dialPod connects to a pod of this node's, for the server, and to nothing else: whoever may name an address to the server must not
// come by what else is in the node's network.
func (a *Agent) dialPod(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
	if !ofPod(a.source.Pods(), a.workers.Status.Get, at) {
		return nil, fmt.Errorf("%w: %s", tunnel.ErrRefused, at)
	}
	dialer := net.Dialer{Timeout: podDial}
	return dialer.DialContext(ctx, "tcp", at.String())
}

// ofPod tells whether an address is that of a pod that is here, by what the runtime says, and not the API, to which others write. Of pods
// in the node's network it is so with the ports that they name only: what else listens at the node's address is not theirs.
func ofPod(pods []*corev1.Pod, status func(types.UID) (*corev1.PodStatus, bool), at netip.AddrPort) bool {
	addr := at.Addr().Unmap()
	if !addr.IsGlobalUnicast() || addr.Zone() != "" || at.Port() == 0 {
		return false
	}
	return slices.ContainsFunc(pods, func(pod *corev1.Pod) bool {
		s, ok := status(pod.UID)
		if !ok || s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodFailed { // whose address may be another's by now
			return false
		}
		has := slices.ContainsFunc(s.PodIPs, func(ip corev1.PodIP) bool {
			a, err := netip.ParseAddr(ip.IP)
			return err == nil && a.Unmap() == addr
		})
		return has && (!pod.Spec.HostNetwork || names(pod, int32(at.Port())))
	})
}

// names tells whether a pod says that it listens on a port.
func names(pod *corev1.Pod, port int32) bool {
	is := func(p corev1.ContainerPort) bool {
		return p.ContainerPort == port && (p.Protocol == corev1.ProtocolTCP || p.Protocol == "")
	}
	of := func(c corev1.Container) bool { return slices.ContainsFunc(c.Ports, is) }
	return slices.ContainsFunc(pod.Spec.Containers, of) || slices.ContainsFunc(pod.Spec.InitContainers, of)
}
