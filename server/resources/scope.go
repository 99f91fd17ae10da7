package resources

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/rowlock-io/rowlock/schema/catalogue"
	"github.com/rowlock-io/rowlock/schema/fieldmanager"
	"github.com/rowlock-io/rowlock/server/resources/write"
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

// writeConfig is what the handlers of writes to an endpoint need beside its scope.
func (ep *endpoint) writeConfig() (write.Config, error) {
	cfg := write.Config{Scope: ep.scope, Scheme: ep.res.Group.Scheme, Traced: ep.h.cfg.Traced}
	reset, err := fieldmanager.ResetFields(ep.src.Storage)
	if err != nil {
		return cfg, err
	}
	fields := ep.h.cfg.FieldManagers
	if cfg.Fields, err = fields.Manager(ep.scope.Kind, ep.scope.HubGroupVersion, ep.src.Subresource, reset); err != nil {
		return cfg, err
	}
	cfg.Admission = fields.Admission(admission.WithAudit(ep.h.cfg.Admission))
	if ep.res.StoredVersion && ep.src.Kind == ep.res.Kind {
		cfg.Stored = write.NewStored(ep.src.Kind, ep.res.Storage)
	}
	return cfg, nil
}
