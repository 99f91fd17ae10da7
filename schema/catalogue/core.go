package catalogue

import (
	"fmt"

	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	api "k8s.io/kubernetes/pkg/apis/core"
	endpointsstore "k8s.io/kubernetes/pkg/registry/core/endpoint/storage"
	limitrangestore "k8s.io/kubernetes/pkg/registry/core/limitrange/storage"
	nodestore "k8s.io/kubernetes/pkg/registry/core/node/storage"
	pvstore "k8s.io/kubernetes/pkg/registry/core/persistentvolume/storage"
	pvcstore "k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim/storage"
	podstore "k8s.io/kubernetes/pkg/registry/core/pod/storage"
	podtemplatestore "k8s.io/kubernetes/pkg/registry/core/podtemplate/storage"
	controllerstore "k8s.io/kubernetes/pkg/registry/core/replicationcontroller/storage"
	corerest "k8s.io/kubernetes/pkg/registry/core/rest"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"
	servicestore "k8s.io/kubernetes/pkg/registry/core/service/storage"
	serviceaccountstore "k8s.io/kubernetes/pkg/registry/core/serviceaccount/storage"
	netutils "k8s.io/utils/net"

	podstrategy "github.com/rowlock-io/rowlock/schema/pods"
)

// newCore builds the core group. Upstream's own assembly reaches past the storage hook for node ports (straight to
// etcd), so the storages are put together here from the same constructors.
func (c *Catalogue) newCore(cfg Config, g *optionsGetter) (*genericapiserver.APIGroupInfo, error) {
	info, err := (&corerest.GenericConfig{EventTTL: cfg.EventTTL}).NewRESTStorage(cfg.Versions.enabled(), g)
	if err != nil {
		return nil, err
	}
	storage := info.VersionedResourcesStorageMap["v1"]

	podTemplates, err := podtemplatestore.NewREST(g)
	if err != nil {
		return nil, err
	}
	limitRanges, err := limitrangestore.NewREST(g)
	if err != nil {
		return nil, err
	}
	volumes, volumeStatus, err := pvstore.NewREST(g)
	if err != nil {
		return nil, err
	}
	claims, claimStatus, err := pvcstore.NewREST(g)
	if err != nil {
		return nil, err
	}
	endpoints, err := endpointsstore.NewREST(g)
	if err != nil {
		return nil, err
	}
	controllers, err := controllerstore.NewStorage(g)
	if err != nil {
		return nil, err
	}
	nodes, err := nodestore.NewStorage(g, cfg.Kubelet, cfg.NodeTransport)
	if err != nil {
		return nil, err
	}
	reach := kubelets{nodes.KubeletConnectionInfo, nodes.Node, cfg.KubeletTransport, cfg.UnverifiedKubelets, cfg.Tunnelled}
	nodes.Proxy.Connection = reach
	c.kubelets = reach
	pods, err := podstore.NewStorage(g, reach, cfg.NodeTransport, cfg.Client.PolicyV1(), cfg.Authorizer)
	if err != nil {
		return nil, err
	}
	pods.Pod.UpdateStrategy = podstrategy.UpdateStrategy()
	services, serviceStatus, serviceProxy, err := c.newServices(cfg, g, endpoints, pods)
	if err != nil {
		return nil, err
	}
	accounts, err := serviceaccountstore.NewREST(g, cfg.ServiceAccountIssuer, cfg.Audiences, cfg.TokenMaxExpiration,
		pods.Pod.Store, storage["secrets"].(rest.Getter), nodes.Node.Store, cfg.ExtendTokens, cfg.TokenExtension)
	if err != nil {
		return nil, err
	}
	tunnelled := tunnelledPods(cfg.TunnelledPods)
	if to, ok := serviceProxy.(*service.ProxyREST); ok {
		to.Redirector = redirector{to.Redirector, endpoints, pods.Pod, tunnelled}
	}
	for path, s := range map[string]rest.Storage{
		"bindings":                      pods.LegacyBinding,
		"componentstatuses":             newComponentStatuses(cfg.Backend.Store),
		"endpoints":                     endpoints,
		"limitranges":                   limitRanges,
		"nodes":                         nodes.Node,
		"nodes/proxy":                   nodeProxy{nodes.Proxy, tunnelled},
		"nodes/status":                  nodes.Status,
		"persistentvolumeclaims":        claims,
		"persistentvolumeclaims/status": claimStatus,
		"persistentvolumes":             volumes,
		"persistentvolumes/status":      volumeStatus,
		"pods":                          pods.Pod,
		"pods/attach":                   pods.Attach,
		"pods/binding":                  pods.Binding,
		"pods/ephemeralcontainers":      pods.EphemeralContainers,
		"pods/eviction":                 pods.Eviction,
		"pods/exec":                     pods.Exec,
		"pods/log":                      pods.Log,
		"pods/portforward":              pods.PortForward,
		"pods/proxy":                    podProxy{pods.Proxy, pods.Pod, tunnelled},
		"pods/resize":                   pods.Resize,
		"pods/status":                   pods.Status,
		"podtemplates":                  podTemplates,
		"replicationcontrollers":        controllers.Controller,
		"replicationcontrollers/scale":  controllers.Scale,
		"replicationcontrollers/status": controllers.Status,
		"serviceaccounts":               accounts,
		"serviceaccounts/token":         accounts.Token,
		"services":                      services,
		"services/proxy":                serviceProxy,
		"services/status":               serviceStatus,
	} {
		storage[path] = s
	}
	return &info, nil
}

func (c *Catalogue) newServices(cfg Config, g *optionsGetter, endpoints *endpointsstore.REST, pods podstore.PodStorage) (*servicestore.REST, *servicestore.StatusREST, rest.Storage, error) {
	addresses, err := ipallocator.NewMetaAllocator(cfg.Client.NetworkingV1(), cfg.Informers.Networking().V1().ServiceCIDRs(),
		cfg.Informers.Networking().V1().IPAddresses(), netutils.IsIPv6CIDR(&cfg.ServiceRange), nil)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("service addresses: %w", err)
	}
	addresses.EnableMetrics()
	c.addresses = addresses
	c.ports = newNodePorts(cfg.Backend, cfg.NodePortRange)
	ports, err := portallocator.New(cfg.NodePortRange, c.ports.factory)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("node ports: %w", err)
	}
	ports.EnableMetrics()
	services, status, proxy, err := servicestore.NewREST(g, addresses.IPFamily(),
		map[api.IPFamily]ipallocator.Interface{addresses.IPFamily(): addresses}, ports, endpoints, pods.Pod, cfg.NodeTransport)
	if err != nil {
		return nil, nil, nil, err
	}
	return services, status, proxy, nil
}
