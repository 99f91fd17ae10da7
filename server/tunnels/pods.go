package tunnels

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/rowlock-io/rowlock/tunnel"
)

// Pods is a transport to what listens on pods of a node, over its tunnel. With own it is for what listens at the node's own address: pods
// in its network, and others, which the agent does not connect to, so that these are dialled. Certificates are not looked at, as upstream
// does not: there is no name that they could be for. ok is false where pods are dialled.
func (t *Tunnels) Pods(node string, own bool) (rt http.RoundTripper, ok bool) {
	if t.cfg.PodsDirectly {
		return nil, false
	}
	t.to(node, func(w *ways) {
		at := &w.pods
		if own {
			at = &w.ports
		}
		if *at == nil {
			*at = transport(
				func(ctx context.Context, network, address string) (net.Conn, error) {
					return t.dialPod(ctx, node, own, network, address)
				},
				&tls.Config{InsecureSkipVerify: true}) //nolint:gosec // as upstream
		}
		rt, ok = *at, true
	})
	return rt, ok
}

// dialPod connects to a pod of a node's. own: the address is the node's as well.
func (t *Tunnels) dialPod(ctx context.Context, node string, own bool, network, address string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil { // a node that is known by its name
		return t.cfg.Direct(ctx, network, address)
	}
	conn, err := t.dial(ctx, node, network, address, target{pod: netip.AddrPortFrom(at.Addr().Unmap(), at.Port())})
	if own && errors.Is(err, tunnel.ErrRefused) {
		return t.cfg.Direct(ctx, network, address)
	}
	return conn, err
}

// DialService connects to an address that a Service was resolved to. When it is that of a pod behind the Service, on a node that has a
// tunnel, then over that. Who writes EndpointSlices cannot say where: what counts is the pod's status, and the agent's own knowledge.
func (t *Tunnels) DialService(ctx context.Context, namespace, service, network, address string) (net.Conn, error) {
	if node, own, ok := t.behind(ctx, namespace, service, address); ok {
		return t.dialPod(ctx, node, own, network, address)
	}
	return t.cfg.Direct(ctx, network, address)
}

// anywhere tells whether there are tunnels.
func (t *Tunnels) anywhere() bool {
	t.mu.Lock()
	held := len(t.held) > 0
	t.mu.Unlock()
	return held || t.cfg.Replicas && t.cfg.Backend.Cache.Snapshot(recordResource).Len() > 0
}

// behind finds the node of a Service's endpoint, if it has a tunnel.
func (t *Tunnels) behind(ctx context.Context, namespace, service, address string) (node string, own, ok bool) {
	if t.cfg.PodsDirectly || !t.anywhere() {
		return "", false, false
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return "", false, false
	}
	all, err := t.cfg.Slices.GetEndpointSlices(namespace, service)
	if err != nil {
		return "", false, false
	}
	var names []string
	for _, s := range all {
		for i := range s.Endpoints {
			if e := &s.Endpoints[i]; leads(e, namespace, at) {
				names = append(names, e.TargetRef.Name)
			}
		}
	}
	// Pods in the networks of their nodes may have one address where nodes do.
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names {
		pod, err := t.cfg.Pod(ctx, namespace, name)
		if err != nil || !has(pod, at.Addr()) {
			continue
		}
		if _, _, ok := t.place(pod.Spec.NodeName); ok {
			return pod.Spec.NodeName, pod.Spec.HostNetwork, true
		}
	}
	return "", false, false
}

// leads tells whether an endpoint says to be a pod with an address, and ready.
func leads(e *discoveryv1.Endpoint, namespace string, at netip.AddrPort) bool {
	to := e.TargetRef
	if to == nil || to.Kind != "Pod" || to.Namespace != "" && to.Namespace != namespace || e.Conditions.Ready != nil && !*e.Conditions.Ready {
		return false
	}
	return slices.ContainsFunc(e.Addresses, func(a string) bool { return same(a, at.Addr()) })
}

func has(pod *corev1.Pod, at netip.Addr) bool {
	return slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return same(ip.IP, at) })
}

func same(text string, at netip.Addr) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && addr.Unmap() == at.Unmap()
}
