package controlplane

import (
	"crypto/tls"
	"net/http"
	"net/url"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/server/egressselector"
	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/apiserver/pkg/util/webhook"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"

	"github.com/rowlock-io/rowlock/server/outbound"
)

// Outbound says how servers are reached that users name: webhooks, aggregated API servers, nodes, pods and services.
type Outbound struct {
	outbound.Config
	// ClusterIPs connects to the cluster IPs of services, which takes a service proxy on this machine, rather than to their
	// endpoints.
	ClusterIPs bool
	// PodsDirectly connects to pods at their addresses, also where their nodes have tunnels.
	PodsDirectly bool
}

// backends is how one cluster reaches them.
type backends struct {
	dialer   *outbound.Dialer
	services outbound.Resolver
	slices   proxy.EndpointSliceGetter
	// webhooks makes the clients of webhooks that users register.
	webhooks webhook.AuthenticationInfoResolverWrapper
	self     *self
	nodes    http.RoundTripper // to pods, services and nodes, by the proxy subresources
}

func newBackends(c *ControlPlane) *backends {
	reach := c.cfg.Outbound.Config
	reach.Tenant = !c.cfg.Operator
	b := &backends{
		dialer: outbound.NewDialer(reach), slices: outbound.NewSlices(c.clients.kube),
		self: &self{authority: c.identity.ClusterCA},
	}
	b.services = outbound.NewResolver(outbound.ResolverConfig{
		Services:    c.informers.Core().V1().Services().Lister(),
		Slices:      b.slices,
		Self:        &url.URL{Scheme: "https", Host: selfHost + ":443"},
		ToEndpoints: !c.cfg.Outbound.ClusterIPs,
	})
	b.webhooks = b.dialer.Webhooks(b.self.config, c.dialService)
	// Pods and services are reached by address: there is no name that a certificate could be for.
	b.nodes = b.dialer.Transport(&tls.Config{InsecureSkipVerify: true}) //nolint:gosec // as upstream
	return b
}

// kubelet says how nodes are reached for logs, exec and the like.
func (b *backends) kubelet() kubeletclient.KubeletClientConfig {
	return kubeletclient.KubeletClientConfig{
		Port:                  10250,
		PreferredAddressTypes: []string{"InternalIP", "ExternalIP", "InternalDNS", "ExternalDNS", "Hostname"},
		Lookup: func(egressselector.NetworkContext) (utilnet.DialFunc, error) {
			return b.dialer.DialContext, nil
		},
	}
}
