package discovery

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/endpoints"
	upstream "k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
)

// content is what all sources together say at one time. It is not changed.
type content struct {
	versions map[schema.GroupVersion]*described
	groups   map[string]*group
	order    []*group
}

type described struct {
	Version
	handler http.Handler
}

type group struct {
	metav1.APIGroup
	handler http.Handler
}

// Set replaces what a source says, all at once. The versions are not the caller's any more.
func (d *Documents) Set(name string, rank Rank, versions []Version) error {
	for i := range versions {
		if versions[i].Aggregated == nil {
			var err error
			if versions[i].Aggregated, err = versions[i].aggregated(); err != nil {
				return err
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sources[name] = source{rank: rank, versions: versions}
	d.compose()
	return nil
}

// Remove takes away all that a source says.
func (d *Documents) Remove(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sources, name)
	d.compose()
}

// compose makes the content anew. d.mu is held.
func (d *Documents) compose() {
	was := d.current.Load()
	now := &content{versions: map[schema.GroupVersion]*described{}, groups: map[string]*group{}}
	names := slices.SortedFunc(maps.Keys(d.sources), func(a, b string) int {
		return cmp.Or(cmp.Compare(d.sources[a].rank, d.sources[b].rank), cmp.Compare(a, b))
	})
	var all []*described
	changed := map[string]bool{}
	for _, name := range names {
		for _, v := range d.sources[name].versions {
			gv := v.GroupVersion
			if now.versions[gv] != nil {
				continue
			}
			next := was.versions[gv]
			if next == nil || !reflect.DeepEqual(next.Version, v) {
				next = &described{Version: v, handler: d.versionHandler(v)}
				changed[gv.Group] = true
				d.publish(v)
			}
			now.versions[gv] = next
			all = append(all, next)
		}
	}
	for gv := range was.versions {
		if now.versions[gv] == nil {
			changed[gv.Group] = true
			d.aggregated.RemoveGroupVersion(metav1.GroupVersion(gv))
		}
	}
	now.arrange(all)
	for name, g := range now.groups {
		if old := was.groups[name]; old != nil && !changed[name] {
			g.handler = old.handler
		} else {
			g.handler = upstream.NewAPIGroupHandler(d.serializer, g.APIGroup)
		}
	}
	d.current.Store(now)
}

// publish puts a version into the aggregated document.
func (d *Documents) publish(v Version) {
	d.aggregated.AddGroupVersion(v.GroupVersion.Group, *v.Aggregated)
	d.aggregated.SetGroupVersionPriority(metav1.GroupVersion(v.GroupVersion), int(v.GroupPriority), int(v.VersionPriority))
}

// arrange orders groups and versions as kube-aggregator orders APIServices: a group stands where the first of its
// versions stands, by priority and then by the name of the version's APIService.
func (c *content) arrange(all []*described) {
	slices.SortFunc(all, func(a, b *described) int {
		return cmp.Or(cmp.Compare(b.GroupPriority, a.GroupPriority), cmp.Compare(serviceName(a), serviceName(b)))
	})
	members := map[string][]*described{}
	for _, v := range all {
		name := v.GroupVersion.Group
		if members[name] == nil {
			g := &group{APIGroup: metav1.APIGroup{Name: name}}
			c.groups[name] = g
			c.order = append(c.order, g)
		}
		members[name] = append(members[name], v)
	}
	for name, g := range c.groups {
		slices.SortFunc(members[name], func(a, b *described) int {
			return cmp.Or(cmp.Compare(b.VersionPriority, a.VersionPriority),
				version.CompareKubeAwareVersionStrings(b.GroupVersion.Version, a.GroupVersion.Version))
		})
		for _, v := range members[name] {
			g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: v.GroupVersion.String(), Version: v.GroupVersion.Version})
		}
		g.PreferredVersion = g.Versions[0]
	}
}

func serviceName(v *described) string { return v.GroupVersion.Version + "." + v.GroupVersion.Group }

// aggregated is the form that Resources has in the aggregated document.
func (v *Version) aggregated() (*apidiscoveryv2.APIVersionDiscovery, error) {
	list, err := endpoints.ConvertGroupVersionIntoToDiscovery(v.Resources)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", v.GroupVersion, err)
	}
	return &apidiscoveryv2.APIVersionDiscovery{
		Version: v.GroupVersion.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent, Resources: list,
	}, nil
}

func (d *Documents) versionHandler(v Version) http.Handler {
	return upstream.NewAPIVersionHandler(d.serializer, v.GroupVersion, upstream.APIResourceListerFunc(func() []metav1.APIResource {
		return v.Resources
	}))
}

// serveRoot answers /apis in its older form.
func (d *Documents) serveRoot(w http.ResponseWriter, req *http.Request) {
	list := &metav1.APIGroupList{}
	for _, g := range d.current.Load().order {
		list.Groups = append(list.Groups, g.APIGroup)
	}
	responsewriters.WriteObjectNegotiated(d.serializer, negotiation.DefaultEndpointRestrictions, schema.GroupVersion{Version: "v1"}, w, req, http.StatusOK, list, false)
}
