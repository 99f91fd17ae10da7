package outbound

import (
	"context"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
)

// Resolver finds the host to connect to for a Service.
type Resolver interface {
	webhook.ServiceResolver
}

// ResolverConfig says how Services are resolved.
type ResolverConfig struct {
	Services listers.ServiceLister
	Slices   proxy.EndpointSliceGetter
	// ToEndpoints connects to one of a Service's ready endpoints rather than to its cluster IP. Services of type ExternalName
	// have no endpoints; they are found by their name either way.
	ToEndpoints bool
	// Self is what the Service `kubernetes` resolves to at its port 443; nil: to what it says itself.
	Self *url.URL
}

// NewResolver returns a resolver.
func NewResolver(cfg ResolverConfig) Resolver { return resolver{cfg} }

type resolver struct{ cfg ResolverConfig }

// ResolveEndpoint implements webhook.ServiceResolver.
func (r resolver) ResolveEndpoint(namespace, name string, port int32) (*url.URL, error) {
	if r.cfg.Self != nil && namespace == corev1.NamespaceDefault && name == "kubernetes" && port == 443 {
		self := *r.cfg.Self
		return &self, nil
	}
	if !r.cfg.ToEndpoints {
		return proxy.ResolveCluster(r.cfg.Services, namespace, name, port)
	}
	service, err := r.cfg.Services.Services(namespace).Get(name)
	if err != nil {
		return nil, err
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		return proxy.ResolveCluster(r.cfg.Services, namespace, name, port)
	}
	return proxy.ResolveEndpoint(r.cfg.Services, r.cfg.Slices, namespace, name, port)
}

// NewSlices reads the EndpointSlices of a Service when they are asked for, from what client's server has in memory. An
// informer would hold all of them, decoded, for the few that lead to a webhook or an aggregated server.
func NewSlices(client kubernetes.Interface) proxy.EndpointSliceGetter { return slices{client} }

type slices struct{ client kubernetes.Interface }

// sliceTimeout bounds a reading, which waits for nothing but the server's own handlers.
const sliceTimeout = 10 * time.Second

// GetEndpointSlices implements proxy.EndpointSliceGetter.
func (s slices) GetEndpointSlices(namespace, service string) ([]*discoveryv1.EndpointSlice, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sliceTimeout)
	defer cancel()
	list, err := s.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{
		LabelSelector:   labels.Set{discoveryv1.LabelServiceName: service}.String(),
		ResourceVersion: "0",
	})
	if err != nil {
		return nil, err
	}
	all := make([]*discoveryv1.EndpointSlice, len(list.Items))
	for i := range list.Items {
		all[i] = &list.Items[i]
	}
	return all, nil
}
