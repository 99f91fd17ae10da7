package catalogue

import (
	"fmt"
	"sort"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"github.com/rowlock-io/rowlock/schema/object"
)

// Resource is one plural name of one group version, with its subresources.
type Resource struct {
	Endpoint
	Group        *genericapiserver.APIGroupInfo
	Namespaced   bool
	ListKind     string // "PodList"; empty when it cannot be listed
	Subresources map[string]*Endpoint

	// Stored is what is kept of this resource; nil when nothing is (reviews, bindings). StoredVersion tells whether
	// this is the version that is kept, so that reads can be answered with the kept bytes.
	Stored        *object.Codec
	StoredVersion bool
}

// Endpoint is a resource or subresource: a storage and what discovery says about it.
type Endpoint struct {
	GroupVersionResource schema.GroupVersionResource
	Subresource          string
	Kind                 schema.GroupVersionKind // of the objects that are read and written here
	Storage              rest.Storage
	Discovery            metav1.APIResource
}

func (c *Catalogue) index(info *genericapiserver.APIGroupInfo) error {
	for _, gv := range info.PrioritizedVersions {
		storages := info.VersionedResourcesStorageMap[gv.Version]
		paths := make([]string, 0, len(storages))
		for path := range storages {
			paths = append(paths, path)
		}
		sort.Strings(paths) // a resource comes before its subresources
		for _, path := range paths {
			if err := c.add(info, gv, path, storages[path]); err != nil {
				return fmt.Errorf("%s %s: %w", gv, path, err)
			}
		}
	}
	return nil
}

func (c *Catalogue) add(info *genericapiserver.APIGroupInfo, gv schema.GroupVersion, path string, storage rest.Storage) error {
	name, sub, _ := strings.Cut(path, "/")
	kind, err := endpoints.GetResourceKind(gv, storage, info.Scheme)
	if err != nil {
		return err
	}
	ep := Endpoint{GroupVersionResource: gv.WithResource(name), Subresource: sub, Kind: kind, Storage: storage}
	if sub != "" {
		parent := c.resources[ep.GroupVersionResource]
		if parent == nil {
			return fmt.Errorf("no resource %s above it", name)
		}
		ep.Discovery = describe(gv, path, &ep, parent.Namespaced)
		parent.Subresources[sub] = &ep
		return nil
	}
	scoper, ok := storage.(rest.Scoper)
	if !ok {
		return fmt.Errorf("storage %T has no scope", storage)
	}
	r := &Resource{Endpoint: ep, Group: info, Namespaced: scoper.NamespaceScoped(), Subresources: map[string]*Endpoint{}}
	r.Discovery = describe(gv, path, &r.Endpoint, r.Namespaced)
	if lister, ok := storage.(rest.Lister); ok {
		kinds, _, err := info.Scheme.ObjectKinds(lister.NewList())
		if err != nil {
			return err
		}
		r.ListKind = kinds[0].Kind
	}
	if err := r.findStored(c, info); err != nil {
		return err
	}
	c.resources[ep.GroupVersionResource] = r
	return nil
}

// findStored ties the resource to what is kept of it, and to the hash that discovery shows of the kept version.
func (r *Resource) findStored(c *Catalogue, info *genericapiserver.APIGroupInfo) error {
	provider, ok := r.Storage.(rest.StorageVersionProvider)
	if !ok || provider.StorageVersion() == nil {
		return nil
	}
	kinds, _, err := info.Scheme.ObjectKinds(r.Storage.New())
	if err != nil {
		return err
	}
	stored, ok := provider.StorageVersion().KindForGroupVersionKinds(kinds)
	if !ok {
		return fmt.Errorf("no stored version of %v", kinds)
	}
	r.Discovery.StorageVersionHash = versionHash(stored)
	r.Stored = c.codecs.get(r.GroupVersionResource.GroupResource())
	r.StoredVersion = r.Stored != nil && stored == r.Kind
	return nil
}

// versionHash tells clients, opaquely, in which version objects are kept. kube-apiserver keeps CustomResourceDefinitions
// as v1beta1, which no server reads from the other's store any more; clients are shown the hash that they know.
func versionHash(stored schema.GroupVersionKind) string {
	if stored.Group == apiextensions.GroupName {
		stored.Version = "v1beta1"
	}
	return discovery.StorageVersionHash(stored.Group, stored.Version, stored.Kind)
}

// describe is what /apis/<group>/<version> says of a path, as upstream's installer derives it from the storage.
func describe(gv schema.GroupVersion, path string, ep *Endpoint, namespaced bool) metav1.APIResource {
	d := metav1.APIResource{Name: path, Namespaced: namespaced, Kind: ep.Kind.Kind, Verbs: verbs(ep.Storage)}
	if p, ok := ep.Storage.(rest.KindProvider); ok {
		d.Kind = p.Kind()
	}
	if p, ok := ep.Storage.(rest.ShortNamesProvider); ok {
		d.ShortNames = p.ShortNames()
	}
	if p, ok := ep.Storage.(rest.CategoriesProvider); ok {
		d.Categories = p.Categories()
	}
	if p, ok := ep.Storage.(rest.SingularNameProvider); ok && ep.Subresource == "" {
		d.SingularName = p.GetSingularName()
	}
	if p, ok := ep.Storage.(rest.GroupVersionKindProvider); ok {
		gvk := p.GroupVersionKind(gv)
		d.Group, d.Version, d.Kind = gvk.Group, gvk.Version, gvk.Kind
	}
	return d
}

// verbs lists what a storage can do in the order of discovery. Connecting is not shown, but for methods whose names
// are verbs of their own (upstream quirk: HTTP methods of a connecter count as get, delete, patch …).
func verbs(s rest.Storage) metav1.Verbs {
	set := map[string]bool{}
	_, lister := s.(rest.Lister)
	_, watcher := s.(rest.Watcher)
	_, getter := s.(rest.Getter)
	_, getterWithOptions := s.(rest.GetterWithOptions)
	_, creater := s.(rest.Creater)
	_, namedCreater := s.(rest.NamedCreater)
	_, updater := s.(rest.Updater)
	_, patcher := s.(rest.Patcher)
	_, deleter := s.(rest.GracefulDeleter)
	_, collectionDeleter := s.(rest.CollectionDeleter)
	set["list"] = lister
	set["watch"] = watcher
	set["get"] = getter || getterWithOptions
	set["create"] = creater || namedCreater
	set["update"] = updater
	set["patch"] = patcher
	set["delete"] = deleter
	set["deletecollection"] = collectionDeleter
	if connecter, ok := s.(rest.Connecter); ok {
		for _, method := range connecter.ConnectMethods() {
			if verb, ok := connectVerbs[method]; ok {
				set[verb] = true
			}
		}
	}
	all := metav1.Verbs{}
	for verb, has := range set {
		if has {
			all = append(all, verb)
		}
	}
	sort.Strings(all)
	return all
}

var connectVerbs = map[string]string{"GET": "get", "PUT": "update", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
