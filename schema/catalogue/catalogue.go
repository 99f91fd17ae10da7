// Package catalogue answers one question: what is served under this path, and with which storage? It builds upstream's
// registries for every group that kube-apiserver serves by default, all of them over one cluster's cache and committer.
package catalogue

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/object"
)

// Config is what the registries of one cluster need.
type Config struct {
	Backend   adapter.Backend
	Hot       *object.Hot                                  // decoded objects kept for the next reader, shared by all resources
	Transform func(schema.GroupResource) value.Transformer // encryption at rest by resource; nil: none
	Client    kubernetes.Interface                         // the cluster's own API, in process
	Informers informers.SharedInformerFactory              // over Client

	Authenticator authenticator.Request // for TokenReview
	Authorizer    authorizer.Authorizer
	Rules         authorizer.RuleResolver
	Audiences     authenticator.Audiences

	ServiceAccountIssuer serviceaccount.TokenGenerator
	TokenMaxExpiration   time.Duration
	ExtendTokens         bool          // tokens of pods, for as long as TokenExtension
	TokenExtension       time.Duration // see serviceaccount.ExpirationExtensionSeconds

	Versions      *Versions // nil: those that kube-apiserver serves by default
	EventTTL      time.Duration
	ServiceRange  net.IPNet
	NodePortRange utilnet.PortRange

	NodeTransport http.RoundTripper // to kubelets and through proxies
	Kubelet       kubeletclient.KubeletClientConfig
	// KubeletTransport is to nodes' own servers; UnverifiedKubelets is the same for those of whom no certificate is demanded. Optional.
	KubeletTransport, UnverifiedKubelets http.RoundTripper
	// Tunnelled are transports in their place to one node that is reached in another way than by its address, if it is. Optional.
	Tunnelled func(node string) (verified, unverified http.RoundTripper, ok bool)
	// TunnelledPods is one in the place of NodeTransport to the pods of such a node; with own, to what listens at the node's own address.
	// Optional.
	TunnelledPods func(node string, own bool) (rt http.RoundTripper, ok bool)
}

// Catalogue is the set of served groups in the order of discovery.
type Catalogue struct {
	groups    []*genericapiserver.APIGroupInfo
	resources map[schema.GroupVersionResource]*Resource
	ports     *NodePorts
	addresses *ipallocator.MetaAllocator
	kubelets  kubeletclient.ConnectionInfoGetter
	codecs    *codecs
	closers   []func()
}

// New builds the registries. It reads nothing and starts nothing but the watch of service ranges, which waits for
// Informers to be started.
func New(cfg Config) (*Catalogue, error) {
	getter, err := newOptionsGetter(cfg)
	if err != nil {
		return nil, err
	}
	c := &Catalogue{resources: map[schema.GroupVersionResource]*Resource{}, codecs: getter.codecs}
	core, err := c.newCore(cfg, getter)
	if err != nil {
		return nil, fmt.Errorf("core group: %w", err)
	}
	c.groups = append(c.groups, core)
	enabled := cfg.Versions.enabled()
	for _, p := range providers(cfg) {
		info, err := p.NewRESTStorage(enabled, getter)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", p.GroupName(), err)
		}
		if len(info.VersionedResourcesStorageMap) == 0 {
			continue // only alpha or beta versions, which are off by default
		}
		c.groups = append(c.groups, &info)
	}
	for _, build := range []func(*optionsGetter) (*genericapiserver.APIGroupInfo, error){newExtensions, newRegistration} {
		info, err := build(getter)
		if err != nil {
			return nil, err
		}
		c.groups = append(c.groups, info)
	}
	for _, info := range c.groups {
		if err := c.index(info); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Groups are upstream's descriptions of what is served, core first, the rest in the order of the providers.
func (c *Catalogue) Groups() []*genericapiserver.APIGroupInfo { return c.groups }

// Resource finds what is served as a group, version and plural name; nil when nothing is.
func (c *Catalogue) Resource(gvr schema.GroupVersionResource) *Resource { return c.resources[gvr] }

// Codec returns the codec under which a resource is stored; nil when it is not stored.
func (c *Catalogue) Codec(gr schema.GroupResource) *object.Codec { return c.codecs.get(gr) }

// Codecs lists the codec of every stored resource.
func (c *Catalogue) Codecs() []*object.Codec { return c.codecs.all() }

// NodePorts is the allocator of service node ports.
func (c *Catalogue) NodePorts() *NodePorts { return c.ports }

// Kubelets tells how nodes' own servers are reached.
func (c *Catalogue) Kubelets() kubeletclient.ConnectionInfoGetter { return c.kubelets }

// HasServiceRange tells whether the allocator of cluster IPs knows a range. It learns of ranges through its informer, and
// until then says that all of them are full.
func (c *Catalogue) HasServiceRange() bool { return c.addresses.Free()+c.addresses.Used() > 0 }

// Close stops what the registries started.
func (c *Catalogue) Close() {
	for _, info := range c.groups {
		for _, resources := range info.VersionedResourcesStorageMap {
			for _, s := range resources {
				s.Destroy()
			}
		}
	}
	for _, f := range c.closers {
		f()
	}
}

// Resources lists every served resource, in no order.
func (c *Catalogue) Resources() []*Resource {
	all := make([]*Resource, 0, len(c.resources))
	for _, r := range c.resources {
		all = append(all, r)
	}
	return all
}

// Serves tells whether a group version has any resource.
func (c *Catalogue) Serves(gv schema.GroupVersion) bool {
	for _, info := range c.groups {
		for _, have := range info.PrioritizedVersions {
			if have == gv {
				return len(info.VersionedResourcesStorageMap[gv.Version]) > 0
			}
		}
	}
	return false
}

// ServesGroup tells whether any version of a group is served.
func (c *Catalogue) ServesGroup(group string) bool {
	for _, info := range c.groups {
		for _, have := range info.PrioritizedVersions {
			if have.Group == group && c.Serves(have) {
				return true
			}
		}
	}
	return false
}
