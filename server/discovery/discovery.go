// Package discovery serves the documents by which clients learn what there is: /api, /apis, and what lies right below
// them, in the aggregated form and in the older one.
package discovery

import (
	"fmt"
	"net/http"
	"sort"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints"
	upstream "k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"github.com/rowlock-io/rowlock/schema/catalogue"
)

// Documents are the discovery documents of one catalogue.
type Documents struct {
	legacyRoot, root http.Handler
	groups           map[string]http.Handler
	versions         map[schema.GroupVersion]http.Handler
}

// New describes a catalogue. Addresses are what /api tells clients about where the server is.
func New(c *catalogue.Catalogue, addresses upstream.Addresses, serializer runtime.NegotiatedSerializer) (*Documents, error) {
	d := &Documents{groups: map[string]http.Handler{}, versions: map[schema.GroupVersion]http.Handler{}}
	resources := byVersion(c)
	legacy, named := aggregated.NewResourceManager("api"), aggregated.NewResourceManager("apis")
	root := groupList{serializer: serializer}
	for _, info := range c.GroupsInOrder() {
		manager := named
		if info.PrioritizedVersions[0].Group == "" {
			manager = legacy
		}
		group, err := d.addGroup(info, resources, manager, serializer)
		if err != nil {
			return nil, err
		}
		if group.Name != "" {
			root.list.Groups = append(root.list.Groups, group)
			d.groups[group.Name] = upstream.NewAPIGroupHandler(serializer, group)
		}
	}
	legacyRoot := upstream.NewLegacyRootAPIHandler(addresses, serializer, genericapiserver.DefaultLegacyAPIPrefix)
	d.legacyRoot = aggregated.WrapAggregatedDiscoveryToHandler(legacyRoot, legacy, legacy)
	d.root = aggregated.WrapAggregatedDiscoveryToHandler(&root, named, named)
	return d, nil
}

func (d *Documents) addGroup(info *genericapiserver.APIGroupInfo, resources map[schema.GroupVersion][]metav1.APIResource,
	manager aggregated.ResourceManager, serializer runtime.NegotiatedSerializer,
) (metav1.APIGroup, error) {
	group := metav1.APIGroup{Name: info.PrioritizedVersions[0].Group}
	for _, gv := range info.PrioritizedVersions {
		list := resources[gv]
		if len(list) == 0 {
			continue
		}
		described, err := endpoints.ConvertGroupVersionIntoToDiscovery(list)
		if err != nil {
			return group, fmt.Errorf("describe %s: %w", gv, err)
		}
		manager.AddGroupVersion(gv.Group, apidiscoveryv2.APIVersionDiscovery{
			Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent, Resources: described,
		})
		if p, ok := catalogue.PriorityOf(gv); ok {
			manager.SetGroupVersionPriority(metav1.GroupVersion(gv), int(p.Group), int(p.Version))
		}
		d.versions[gv] = upstream.NewAPIVersionHandler(serializer, gv, upstream.APIResourceListerFunc(func() []metav1.APIResource { return list }))
		group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version})
	}
	if len(group.Versions) > 0 {
		group.PreferredVersion = group.Versions[0]
	}
	return group, nil
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

// groupList is the older form of /apis.
type groupList struct {
	list       metav1.APIGroupList
	serializer runtime.NegotiatedSerializer
}

func (g *groupList) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	list := g.list // encoding sets its kind
	responsewriters.WriteObjectNegotiated(g.serializer, negotiation.DefaultEndpointRestrictions, schema.GroupVersion{Version: "v1"}, w, req, http.StatusOK, &list, false)
}

// LegacyRoot is /api.
func (d *Documents) LegacyRoot() http.Handler { return d.legacyRoot }

// Root is /apis.
func (d *Documents) Root() http.Handler { return d.root }

// Group is /apis/<group>; nil when there is no such group.
func (d *Documents) Group(name string) http.Handler { return d.groups[name] }

// Version is /api/v1 or /apis/<group>/<version>; nil when there is no such version.
func (d *Documents) Version(gv schema.GroupVersion) http.Handler { return d.versions[gv] }
