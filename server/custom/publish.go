package custom

import (
	"cmp"
	"slices"
	"strconv"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/endpoints/discovery"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/server/discovery"
	"github.com/rowlock-io/rowlock/storage"
)

// source names the custom resources in discovery and OpenAPI.
const source = "custom"

// Upstream's priorities of APIServices for custom resources: behind all built-in groups.
const (
	groupPriority   = 1000
	versionPriority = 100
)

// publish tells discovery, OpenAPI and the mapper of what there is.
func (h *Handler) publish() {
	var crds []*apiextensions.CustomResourceDefinition
	established := map[string]*definition{}
	for _, d := range h.all() {
		crd := d.state.Load().crd
		if apihelpers.IsCRDConditionTrue(crd, apiextensions.Established) {
			crds = append(crds, crd)
			established[crd.Name] = d
		}
	}
	slices.SortFunc(crds, func(a, b *apiextensions.CustomResourceDefinition) int { return cmp.Compare(a.Name, b.Name) })
	versions := map[schema.GroupVersion]*discovery.Version{}
	for _, crd := range crds {
		describe(crd, versions)
	}
	all := make([]discovery.Version, 0, len(versions))
	for _, v := range versions {
		all = append(all, *v)
	}
	slices.SortFunc(all, func(a, b discovery.Version) int {
		return cmp.Compare(a.GroupVersion.String(), b.GroupVersion.String())
	})
	if err := h.cfg.Documents.Set(source, discovery.RankCustom, all); err != nil {
		h.cfg.Log.Error("Custom resources could not be described", "err", err)
	}
	if h.cfg.Published != nil {
		served := make([]schema.GroupVersion, len(all))
		for i := range all {
			served[i] = all[i].GroupVersion
		}
		h.cfg.Published(served)
	}
	h.cfg.Mapper.set(crds)
	h.publishOpenAPI(crds, established)
}

var (
	allVerbs         = metav1.Verbs{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}
	terminatingVerbs = metav1.Verbs{"delete", "deletecollection", "get", "list", "watch"}
	partVerbs        = metav1.Verbs{"get", "patch", "update"}
)

// describe adds what discovery says about a definition, in upstream's words and order.
func describe(crd *apiextensions.CustomResourceDefinition, versions map[schema.GroupVersion]*discovery.Version) {
	names, namespaced, scope := crd.Status.AcceptedNames, crd.Spec.Scope == apiextensions.NamespaceScoped, apidiscovery.ScopeCluster
	if namespaced {
		scope = apidiscovery.ScopeNamespace
	}
	verbs := allVerbs
	if apihelpers.IsCRDConditionTrue(crd, apiextensions.Terminating) {
		verbs = terminatingVerbs
	}
	hash := ""
	for _, v := range crd.Spec.Versions {
		if v.Storage && v.Served {
			hash = upstream.StorageVersionHash(crd.Spec.Group, v.Name, crd.Spec.Names.Kind)
		}
	}
	for _, v := range crd.Spec.Versions {
		if !v.Served {
			continue
		}
		gv := schema.GroupVersion{Group: crd.Spec.Group, Version: v.Name}
		d := versions[gv]
		if d == nil {
			d = &discovery.Version{
				GroupVersion: gv, GroupPriority: groupPriority, VersionPriority: versionPriority,
				Aggregated: &apidiscovery.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent},
			}
			versions[gv] = d
		}
		kind := &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: names.Kind}
		resource := apidiscovery.APIResourceDiscovery{
			Resource: names.Plural, SingularResource: names.Singular, Scope: scope, ResponseKind: kind, Verbs: verbs,
			ShortNames: names.ShortNames, Categories: names.Categories,
		}
		d.Resources = append(d.Resources, metav1.APIResource{
			Name: names.Plural, SingularName: names.Singular, Namespaced: namespaced, Kind: names.Kind, Verbs: verbs,
			ShortNames: names.ShortNames, Categories: names.Categories, StorageVersionHash: hash,
		})
		if sub := v.Subresources; sub != nil && sub.Status != nil {
			resource.Subresources = append(resource.Subresources, apidiscovery.APISubresourceDiscovery{Subresource: "status", ResponseKind: kind, Verbs: partVerbs})
			d.Resources = append(d.Resources, metav1.APIResource{
				Name: names.Plural + "/status", Namespaced: namespaced, Kind: names.Kind, Verbs: partVerbs,
			})
		}
		if sub := v.Subresources; sub != nil && sub.Scale != nil {
			scale := autoscalingv1.SchemeGroupVersion.WithKind("Scale")
			resource.Subresources = append(resource.Subresources, apidiscovery.APISubresourceDiscovery{
				Subresource: "scale", Verbs: partVerbs,
				ResponseKind: &metav1.GroupVersionKind{Group: scale.Group, Version: scale.Version, Kind: scale.Kind},
			})
			d.Resources = append(d.Resources, metav1.APIResource{
				Name: names.Plural + "/scale", Namespaced: namespaced, Group: scale.Group, Version: scale.Version, Kind: scale.Kind, Verbs: partVerbs,
			})
		}
		d.Aggregated.Resources = append(d.Aggregated.Resources, resource)
	}
}

func revisionString(rev storage.Revision) string { return strconv.FormatUint(uint64(rev), 10) }

func parseRevision(resourceVersion string) (storage.Revision, error) {
	rev, err := apistorage.APIObjectVersioner{}.ParseResourceVersion(resourceVersion)
	return storage.Revision(rev), err
}
