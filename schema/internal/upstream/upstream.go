// Package upstream builds the API groups that a kube-apiserver with default flags serves, over a store that does
// nothing, so that tests of what is derived from groups (OpenAPI documents, typed models, field managers) need neither
// a database nor the product's own catalogue. It is for tests only: every call that would reach the store panics.
package upstream

import (
	"context"
	"fmt"
	"net"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	restclient "k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiservicerest "k8s.io/kube-aggregator/pkg/registry/apiservice/rest"
	"k8s.io/kubernetes/pkg/controlplane"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	admissionregistrationrest "k8s.io/kubernetes/pkg/registry/admissionregistration/rest"
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
)

// Groups builds every group of a default kube-apiserver, apiextensions.k8s.io and apiregistration.k8s.io included.
func Groups() ([]*genericapiserver.APIGroupInfo, error) {
	var getter generic.RESTOptionsGetter = optionsGetter{}
	resources := controlplane.DefaultAPIResourceConfigSource()
	core, err := coreGroup(resources, getter)
	if err != nil {
		return nil, fmt.Errorf("build core group: %w", err)
	}
	groups := []*genericapiserver.APIGroupInfo{core}
	client, err := corev1client.NewForConfig(&restclient.Config{Host: "127.0.0.1:1"})
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	for _, p := range providers(client) {
		g, err := p.NewRESTStorage(resources, getter)
		if err != nil {
			return nil, fmt.Errorf("build group %q: %w", p.GroupName(), err)
		}
		if len(g.VersionedResourcesStorageMap) > 0 {
			groups = append(groups, &g)
		}
	}
	extensions, err := extensionsGroup(getter)
	if err != nil {
		return nil, fmt.Errorf("build apiextensions group: %w", err)
	}
	enabled := serverstorage.NewResourceConfig()
	enabled.EnableVersions(apiregistrationv1.SchemeGroupVersion)
	registration := apiservicerest.NewRESTStorage(enabled, getter, false)
	return append(groups, extensions, &registration), nil
}

func providers(client corev1client.NamespacesGetter) []controlplaneapiserver.RESTStorageProvider {
	allow := authorizerfactory.NewAlwaysAllowAuthorizer()
	return []controlplaneapiserver.RESTStorageProvider{
		authenticationrest.RESTStorageProvider{},
		authorizationrest.RESTStorageProvider{Authorizer: allow, RuleResolver: noRules{}},
		autoscalingrest.RESTStorageProvider{},
		batchrest.RESTStorageProvider{},
		certificatesrest.RESTStorageProvider{Authorizer: allow},
		coordinationrest.RESTStorageProvider{},
		discoveryrest.StorageProvider{},
		networkingrest.RESTStorageProvider{},
		noderest.RESTStorageProvider{},
		policyrest.RESTStorageProvider{},
		rbacrest.RESTStorageProvider{Authorizer: allow},
		schedulingrest.RESTStorageProvider{},
		storagerest.RESTStorageProvider{},
		flowcontrolrest.RESTStorageProvider{},
		appsrest.StorageProvider{},
		admissionregistrationrest.RESTStorageProvider{Authorizer: allow},
		eventsrest.RESTStorageProvider{TTL: time.Hour},
		resourcerest.RESTStorageProvider{NamespaceClient: client.Namespaces(), Authorizer: allow},
	}
}

// noRules answers that a user may do nothing.
type noRules struct{}

func (noRules) RulesFor(context.Context, user.Info, string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	return nil, nil, false, nil
}

// serviceRange is the range cluster IPs of services come from.
func serviceRange() *net.IPNet {
	return &net.IPNet{IP: net.IPv4(10, 0, 0, 0).To4(), Mask: net.CIDRMask(24, 32)}
}
