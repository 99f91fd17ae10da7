package controlplane

import (
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/rowlock-io/rowlock/schema/catalogue"
)

// mapperOf maps kinds to resources and back by what is served, without asking discovery.
func mapperOf(c *catalogue.Catalogue, custom meta.RESTMapper) meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for _, r := range c.Resources() {
		scope := meta.RESTScopeRoot
		if r.Namespaced {
			scope = meta.RESTScopeNamespace
		}
		singular := r.GroupVersionResource.GroupVersion().WithResource(r.Discovery.SingularName)
		m.AddSpecific(r.Kind, r.GroupVersionResource, singular, scope)
	}
	return meta.FirstHitRESTMapper{MultiRESTMapper: meta.MultiRESTMapper{m, custom}}
}
