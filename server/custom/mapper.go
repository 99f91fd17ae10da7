package custom

import (
	"sync/atomic"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// mapper maps the kinds and resources of the definitions that there are at the moment.
type mapper struct {
	now atomic.Pointer[meta.DefaultRESTMapper]
}

var _ meta.RESTMapper = &mapper{}

// Mapper maps kinds of custom resources to resources and back.
func (h *Handler) Mapper() meta.RESTMapper { return &h.mapper }

func (m *mapper) set(crds []*apiextensions.CustomResourceDefinition) {
	next := meta.NewDefaultRESTMapper(nil)
	for _, crd := range crds {
		names, scope := crd.Status.AcceptedNames, meta.RESTScopeRoot
		if crd.Spec.Scope == apiextensions.NamespaceScoped {
			scope = meta.RESTScopeNamespace
		}
		for _, v := range crd.Spec.Versions {
			if v.Served {
				gv := schema.GroupVersion{Group: crd.Spec.Group, Version: v.Name}
				next.AddSpecific(gv.WithKind(names.Kind), gv.WithResource(names.Plural), gv.WithResource(names.Singular), scope)
			}
		}
	}
	m.now.Store(next)
}

func (m *mapper) get() *meta.DefaultRESTMapper {
	if now := m.now.Load(); now != nil {
		return now
	}
	return meta.NewDefaultRESTMapper(nil)
}

// KindFor implements meta.RESTMapper.
func (m *mapper) KindFor(resource schema.GroupVersionResource) (schema.GroupVersionKind, error) {
	return m.get().KindFor(resource)
}

// KindsFor implements meta.RESTMapper.
func (m *mapper) KindsFor(resource schema.GroupVersionResource) ([]schema.GroupVersionKind, error) {
	return m.get().KindsFor(resource)
}

// ResourceFor implements meta.RESTMapper.
func (m *mapper) ResourceFor(input schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	return m.get().ResourceFor(input)
}

// ResourcesFor implements meta.RESTMapper.
func (m *mapper) ResourcesFor(input schema.GroupVersionResource) ([]schema.GroupVersionResource, error) {
	return m.get().ResourcesFor(input)
}

// RESTMapping implements meta.RESTMapper.
func (m *mapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	return m.get().RESTMapping(gk, versions...)
}

// RESTMappings implements meta.RESTMapper.
func (m *mapper) RESTMappings(gk schema.GroupKind, versions ...string) ([]*meta.RESTMapping, error) {
	return m.get().RESTMappings(gk, versions...)
}

// ResourceSingularizer implements meta.RESTMapper.
func (m *mapper) ResourceSingularizer(resource string) (string, error) {
	return m.get().ResourceSingularizer(resource)
}
