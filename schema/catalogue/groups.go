package catalogue

import (
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensionsserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	apiservicerest "k8s.io/kube-aggregator/pkg/registry/apiservice/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	admissionregistrationrest "k8s.io/kubernetes/pkg/registry/admissionregistration/rest"
	apiserverinternalrest "k8s.io/kubernetes/pkg/registry/apiserverinternal/rest"
	appsrest "k8s.io/kubernetes/pkg/registry/apps/rest"
	authenticationrest "k8s.io/kubernetes/pkg/registry/authentication/rest"
	authorizationrest "k8s.io/kubernetes/pkg/registry/authorization/rest"
	autoscalingrest "k8s.io/kubernetes/pkg/registry/autoscaling/rest"
	batchrest "k8s.io/kubernetes/pkg/registry/batch/rest"
	certificatesrest "k8s.io/kubernetes/pkg/registry/certificates/rest"
	coordinationrest "k8s.io/kubernetes/pkg/registry/coordination/rest"
	discoveryrest "k8s.io/kubernetes/pkg/registry/discovery/rest"
	eventsrest "k8s.io/kubernetes/pkg/registry/events/rest"
	flowcontrolrest "k8s.io/kubernetes/pkg/registry/flowcontrol/rest"
	networkingrest "k8s.io/kubernetes/pkg/registry/networking/rest"
	noderest "k8s.io/kubernetes/pkg/registry/node/rest"
	policyrest "k8s.io/kubernetes/pkg/registry/policy/rest"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	resourcerest "k8s.io/kubernetes/pkg/registry/resource/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
	storagerest "k8s.io/kubernetes/pkg/registry/storage/rest"
	svmrest "k8s.io/kubernetes/pkg/registry/storagemigration/rest"
)

// provider is upstream's factory of one group's storages.
type provider interface {
	GroupName() string
	NewRESTStorage(serverstorage.APIResourceConfigSource, generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error)
}

// providers lists the groups behind the core one. The order is kube-apiserver's: discovery keeps it, and with it the
// group that an unqualified resource name means.
func providers(cfg Config) []provider {
	return []provider{
		apiserverinternalrest.StorageProvider{},
		authenticationrest.RESTStorageProvider{Authenticator: cfg.Authenticator, APIAudiences: cfg.Audiences},
		authorizationrest.RESTStorageProvider{Authorizer: cfg.Authorizer, RuleResolver: cfg.Rules},
		autoscalingrest.RESTStorageProvider{},
		batchrest.RESTStorageProvider{},
		certificatesrest.RESTStorageProvider{Authorizer: cfg.Authorizer},
		coordinationrest.RESTStorageProvider{},
		discoveryrest.StorageProvider{},
		networkingrest.RESTStorageProvider{},
		noderest.RESTStorageProvider{},
		policyrest.RESTStorageProvider{},
		rbacrest.RESTStorageProvider{Authorizer: cfg.Authorizer},
		schedulingrest.RESTStorageProvider{},
		storagerest.RESTStorageProvider{},
		svmrest.RESTStorageProvider{},
		flowcontrolrest.RESTStorageProvider{InformerFactory: cfg.Informers},
		appsrest.StorageProvider{},
		admissionregistrationrest.RESTStorageProvider{Authorizer: cfg.Authorizer, DiscoveryClient: cfg.Client.Discovery()},
		eventsrest.RESTStorageProvider{TTL: cfg.EventTTL},
		resourcerest.RESTStorageProvider{NamespaceClient: cfg.Client.CoreV1().Namespaces(), Authorizer: cfg.Authorizer},
	}
}

// serializerOf finds the codecs of a group: two groups have schemes of their own.
func serializerOf(group string) runtime.StorageSerializer {
	switch group {
	case apiextensions.GroupName:
		return extensionsserver.Codecs
	case apiregistrationv1.GroupName:
		return aggregatorscheme.Codecs
	}
	return legacyscheme.Codecs
}

// schemeOf finds the scheme of a group.
func schemeOf(group string) *runtime.Scheme {
	switch group {
	case apiextensions.GroupName:
		return extensionsserver.Scheme
	case apiregistrationv1.GroupName:
		return aggregatorscheme.Scheme
	}
	return legacyscheme.Scheme
}

// schemeGetter gives the registries of a group with a scheme of its own the codec of that scheme.
type schemeGetter struct {
	*optionsGetter
	stored schema.GroupVersion
}

func (g schemeGetter) GetRESTOptions(gr schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	config := *storagebackend.NewDefaultConfig("/registry", nil)
	codec, versioner, err := serverstorage.NewStorageCodec(serverstorage.StorageCodecConfig{
		StorageMediaType:  runtime.ContentTypeJSON,
		StorageSerializer: serializerOf(g.stored.Group),
		StorageVersion:    g.stored,
		MemoryVersion:     schema.GroupVersion{Group: g.stored.Group, Version: runtime.APIVersionInternal},
		Config:            config,
	})
	if err != nil {
		return generic.RESTOptions{}, fmt.Errorf("storage version of %s: %w", gr, err)
	}
	config.Codec, config.EncodeVersioner = codec, versioner
	return g.restOptions(gr, config.ForResource(gr)), nil
}

// newExtensions is the group of CustomResourceDefinitions.
func newExtensions(g *optionsGetter) (*genericapiserver.APIGroupInfo, error) {
	getter := schemeGetter{g, apiextensionsv1.SchemeGroupVersion}
	crds, err := customresourcedefinition.NewREST(extensionsserver.Scheme, getter)
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", apiextensions.GroupName, err)
	}
	info := genericapiserver.NewDefaultAPIGroupInfo(apiextensions.GroupName, extensionsserver.Scheme, metav1.ParameterCodec, extensionsserver.Codecs)
	info.VersionedResourcesStorageMap["v1"] = map[string]rest.Storage{
		"customresourcedefinitions":        crds,
		"customresourcedefinitions/status": customresourcedefinition.NewStatusREST(extensionsserver.Scheme, crds),
	}
	return &info, nil
}

// newRegistration is the group of APIServices.
func newRegistration(g *optionsGetter) (*genericapiserver.APIGroupInfo, error) {
	enabled := serverstorage.NewResourceConfig()
	enabled.EnableVersions(apiregistrationv1.SchemeGroupVersion)
	info := apiservicerest.NewRESTStorage(enabled, schemeGetter{g, apiregistrationv1.SchemeGroupVersion}, false)
	return &info, nil
}
