// Package discovery serves the documents by which clients learn what there is: /api, /apis, and what lies right below
// them, in the aggregated form and in the older one.
//
// The built-in groups are there from the start. Other parts of the API (custom resources, aggregated servers) join as
// named sources, which come and go at run time. Groups and versions stand in the order that kube-aggregator gives them.
package discovery

import (
	"net/http"
	"sort"
	"sync"
	"sync/atomic"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"github.com/rowlock-io/rowlock/schema/catalogue"
)

// Version is what discovery says about a group version.
type Version struct {
	GroupVersion schema.GroupVersion
	// Higher comes first; see spec of APIService. A group has the highest of its versions' group priorities.
	GroupPriority, VersionPriority int32
	// Resources is the content of /apis/<group>/<version>, subresources included.
	Resources []metav1.APIResource
	// Aggregated is what the aggregated document says; nil: the same as Resources.
	Aggregated *apidiscoveryv2.APIVersionDiscovery
}

// Rank decides between sources that describe the same group version: the lowest wins.
type Rank int

// The ranks are upstream's: an aggregated server stands in for a built-in group version of the same name, which stands in
// for that of a custom resource.
const (
	RankAggregated Rank = iota
	RankBuiltin
	RankCustom
)

// Documents are the discovery documents of one cluster. All methods may be called at the same time.
type Documents struct {
	serializer runtime.NegotiatedSerializer
	legacyRoot http.Handler
	root       http.Handler
	legacy     map[schema.GroupVersion]http.Handler // /api/v1

	mu         sync.Mutex
	sources    map[string]source
	aggregated aggregated.ResourceManager
	current    atomic.Pointer[content]
}

type source struct {
	rank     Rank
	versions []Version
}

// builtin is the source of the built-in groups.
const builtin = ""

// New describes a catalogue. Addresses are what /api tells clients about where the server is.
func New(c *catalogue.Catalogue, addresses upstream.Addresses, serializer runtime.NegotiatedSerializer) (*Documents, error) {
	d := &Documents{
		serializer: serializer, legacy: map[schema.GroupVersion]http.Handler{}, sources: map[string]source{},
		aggregated: aggregated.NewResourceManager("apis"),
	}
	d.current.Store(&content{})
	legacy := aggregated.NewResourceManager("api")
	resources := byVersion(c)
	var versions []Version
	for _, info := range c.GroupsInOrder() {
		for _, gv := range info.PrioritizedVersions {
			if len(resources[gv]) == 0 {
				continue
			}
			v := Version{GroupVersion: gv, Resources: resources[gv]}
			if p, ok := catalogue.PriorityOf(gv); ok {
				v.GroupPriority, v.VersionPriority = p.Group, p.Version
			}
			if gv.Group != "" {
				versions = append(versions, v)
				continue
			}
			described, err := v.aggregated()
			if err != nil {
				return nil, err
			}
			legacy.AddGroupVersion("", *described)
			d.legacy[gv] = d.versionHandler(v)
		}
	}
	if err := d.Set(builtin, RankBuiltin, versions); err != nil {
		return nil, err
	}
	legacyRoot := upstream.NewLegacyRootAPIHandler(addresses, serializer, genericapiserver.DefaultLegacyAPIPrefix)
	d.legacyRoot = aggregated.WrapAggregatedDiscoveryToHandler(legacyRoot, legacy, legacy)
	d.root = aggregated.WrapAggregatedDiscoveryToHandler(http.HandlerFunc(d.serveRoot), d.aggregated, d.aggregated)
	return d, nil
}

// byVersion lists what is served of each group version, by path.
func byVersion(c *catalogue.Catalogue) map[schema.GroupVersion][]metav1.APIResource {
	m := map[schema.GroupVersion][]metav1.APIResource{}
	for _, r := range c.Resources() {
		gv := r.GroupVersionResource.GroupVersion()
		m[gv] = append(m[gv], r.Discovery)
		for _, sub := range r.Subresources {
			m[gv] = append(m[gv], sub.Discovery)
		}
	}
	for _, list := range m {
		sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	}
	return m
}

// LegacyRoot is /api.
func (d *Documents) LegacyRoot() http.Handler { return d.legacyRoot }

// Root is /apis.
func (d *Documents) Root() http.Handler { return d.root }

// Group is /apis/<group>; nil when there is no such group.
func (d *Documents) Group(name string) http.Handler {
	if g := d.current.Load().groups[name]; g != nil {
		return g.handler
	}
	return nil
}

// Version is /api/v1 or /apis/<group>/<version>; nil when there is no such version.
func (d *Documents) Version(gv schema.GroupVersion) http.Handler {
	if gv.Group == "" {
		return d.legacy[gv]
	}
	if v := d.current.Load().versions[gv]; v != nil {
		return v.handler
	}
	return nil
}

// Paths lists the paths of all groups and versions below /apis, in no order.
func (d *Documents) Paths() []string {
	c := d.current.Load()
	paths := make([]string, 0, len(c.groups)+len(c.versions))
	for name := range c.groups {
		paths = append(paths, "/apis/"+name)
	}
	for gv := range c.versions {
		paths = append(paths, "/apis/"+gv.String())
	}
	return paths
}
