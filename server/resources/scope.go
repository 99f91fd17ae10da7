package resources

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/rowlock-io/rowlock/schema/catalogue"
	"github.com/rowlock-io/rowlock/schema/fieldmanager"
)

// scope tells upstream's handlers how the objects of an endpoint are decoded, converted, named and written.
func (h *Handler) scope(res *catalogue.Resource, ep *catalogue.Endpoint) (*handlers.RequestScope, error) {
	group := res.Group
	s := &handlers.RequestScope{
		Namer:                    handlers.ContextBasedNaming{Namer: h.namer, ClusterScoped: !res.Namespaced},
		Serializer:               group.NegotiatedSerializer,
		ParameterCodec:           group.ParameterCodec,
		Creater:                  group.Scheme,
		Convertor:                group.Scheme,
		Defaulter:                group.Scheme,
		Typer:                    group.Scheme,
		UnsafeConvertor:          runtime.UnsafeObjectConvertor(group.Scheme),
		Authorizer:               h.cfg.Authorizer,
		EquivalentResourceMapper: h.equivalent,
		Resource:                 ep.GroupVersionResource,
		Subresource:              ep.Subresource,
		Kind:                     ep.Kind,
		HubGroupVersion:          schema.GroupVersion{Group: ep.Kind.Group, Version: runtime.APIVersionInternal},
		MetaGroupVersion:         metav1.SchemeGroupVersion,
		MaxRequestBodyBytes:      h.cfg.MaxRequestBodyBytes,
	}
	s.TableConvertor, _ = ep.Storage.(rest.TableConvertor)
	s.AcceptsGroupVersionDelegate, _ = ep.Storage.(rest.GroupVersionAcceptor)
	if group.MetaGroupVersion != nil {
		s.MetaGroupVersion = *group.MetaGroupVersion
	}
	reset, err := fieldmanager.ResetFields(ep.Storage)
	if err != nil {
		return nil, err
	}
	s.FieldManager, err = h.cfg.FieldManagers.For(s.Kind, s.HubGroupVersion, ep.Subresource, reset)
	return s, err
}
