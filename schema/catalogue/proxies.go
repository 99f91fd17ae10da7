package catalogue

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/registry/rest"
	api "k8s.io/kubernetes/pkg/apis/core"
	noderest "k8s.io/kubernetes/pkg/registry/core/node/rest"
	podrest "k8s.io/kubernetes/pkg/registry/core/pod/rest"
)

// tunnelledPods is Config.TunnelledPods.
type tunnelledPods func(node string, own bool) (rt http.RoundTripper, ok bool)

// to is the transport to a pod, whose node never changes; otherwise is that to pods of nodes without tunnels.
func (t tunnelledPods) to(pod *api.Pod, otherwise http.RoundTripper) http.RoundTripper {
	if t == nil || pod == nil || pod.Spec.NodeName == "" {
		return otherwise
	}
	if rt, ok := t(pod.Spec.NodeName, pod.Spec.SecurityContext != nil && pod.Spec.SecurityContext.HostNetwork); ok {
		return rt
	}
	return otherwise
}

// nodeProxy is upstream's. Ports other than that of the node's API are reached in the node's own way too.
type nodeProxy struct {
	*noderest.ProxyREST
	pods tunnelledPods
}

// Connect implements rest.Connecter.
func (p nodeProxy) Connect(ctx context.Context, id string, opts runtime.Object, responder rest.Responder) (http.Handler, error) {
	if _, name, port, ok := utilnet.SplitSchemeNamePort(id); ok && port != "" && p.pods != nil {
		if rt, ok := p.pods(name, true); ok {
			its := *p.ProxyREST
			its.ProxyTransport = rt
			return its.Connect(ctx, id, opts, responder)
		}
	}
	return p.ProxyREST.Connect(ctx, id, opts, responder)
}

// podProxy is upstream's, by way of the pod's node.
type podProxy struct {
	*podrest.ProxyREST
	get  rest.Getter
	pods tunnelledPods
}

// Connect implements rest.Connecter.
func (p podProxy) Connect(ctx context.Context, id string, opts runtime.Object, responder rest.Responder) (http.Handler, error) {
	_, name, _, ok := utilnet.SplitSchemeNamePort(id)
	if !ok || p.pods == nil {
		return p.ProxyREST.Connect(ctx, id, opts, responder)
	}
	its := *p.ProxyREST
	its.ProxyTransport = p.pods.to(getPod(ctx, p.get, name), its.ProxyTransport)
	return its.Connect(ctx, id, opts, responder)
}

// getPod reads what is known of a pod; nil: that is nothing. It is a question of the way only.
func getPod(ctx context.Context, from rest.Getter, name string) *api.Pod {
	obj, err := from.Get(ctx, name, &metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return nil
	}
	pod, _ := obj.(*api.Pod)
	return pod
}

// redirector is upstream's for services, by way of the node of the pod that was chosen.
type redirector struct {
	rest.Redirector
	endpoints, get rest.Getter
	pods           tunnelledPods
}

// ResourceLocation implements rest.Redirector.
func (r redirector) ResourceLocation(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	at, rt, err := r.Redirector.ResourceLocation(ctx, id)
	if err != nil || r.pods == nil {
		return at, rt, err
	}
	host, _, _ := net.SplitHostPort(at.Host)
	addr, wrong := netip.ParseAddr(host)
	_, name, _, ok := utilnet.SplitSchemeNamePort(id)
	if wrong != nil || !ok {
		return at, rt, nil
	}
	return at, r.pods.to(r.pod(ctx, name, addr), rt), nil
}

// pod finds the pod of an endpoint. Upstream has just looked whether the address is its own.
func (r redirector) pod(ctx context.Context, service string, at netip.Addr) *api.Pod {
	obj, err := r.endpoints.Get(ctx, service, &metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return nil
	}
	all, ok := obj.(*api.Endpoints)
	if !ok {
		return nil
	}
	for i := range all.Subsets {
		for _, a := range all.Subsets[i].Addresses {
			if ip, err := netip.ParseAddr(a.IP); err != nil || ip != at || a.TargetRef == nil {
				continue
			}
			if pod := getPod(ctx, r.get, a.TargetRef.Name); pod != nil && hasAddress(pod, at) {
				return pod
			}
		}
	}
	return nil
}

func hasAddress(pod *api.Pod, at netip.Addr) bool {
	for _, ip := range pod.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a == at {
			return true
		}
	}
	return false
}
