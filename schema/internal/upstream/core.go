package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	extensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	policyclient "k8s.io/client-go/kubernetes/typed/policy/v1"
	restclient "k8s.io/client-go/rest"
	api "k8s.io/kubernetes/pkg/apis/core"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	"k8s.io/kubernetes/pkg/registry/core/componentstatus"
	endpointsstore "k8s.io/kubernetes/pkg/registry/core/endpoint/storage"
	limitrangestore "k8s.io/kubernetes/pkg/registry/core/limitrange/storage"
	nodestore "k8s.io/kubernetes/pkg/registry/core/node/storage"
	pvstore "k8s.io/kubernetes/pkg/registry/core/persistentvolume/storage"
	pvcstore "k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim/storage"
	podstore "k8s.io/kubernetes/pkg/registry/core/pod/storage"
	podtemplatestore "k8s.io/kubernetes/pkg/registry/core/podtemplate/storage"
	controllerstore "k8s.io/kubernetes/pkg/registry/core/replicationcontroller/storage"
	corerest "k8s.io/kubernetes/pkg/registry/core/rest"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"
	servicestore "k8s.io/kubernetes/pkg/registry/core/service/storage"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

func coreGroup(resources serverstorage.APIResourceConfigSource, getter generic.RESTOptionsGetter) (*genericapiserver.APIGroupInfo, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tokens, err := serviceaccount.JWTTokenGenerator("https://issuer.invalid", key)
	if err != nil {
		return nil, err
	}
	simple := corerest.GenericConfig{
		EventTTL:                    time.Hour,
		ServiceAccountIssuer:        tokens,
		APIAudiences:                authenticator.Audiences{"api"},
		ServiceAccountMaxExpiration: time.Hour,
	}
	group, err := simple.NewRESTStorage(resources, getter)
	if err != nil {
		return nil, err
	}
	b := coreBuilder{getter: getter, storage: group.VersionedResourcesStorageMap["v1"]}
	for _, step := range []func() error{b.nodesAndPods, b.services, b.controllers, b.volumes, b.others} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &group, nil
}

// coreBuilder adds to the core group what upstream's simple provider leaves out.
type coreBuilder struct {
	getter    generic.RESTOptionsGetter
	storage   map[string]rest.Storage
	pods      podstore.PodStorage
	endpoints *endpointsstore.REST
}

func (b *coreBuilder) nodesAndPods() error {
	nodes, err := nodestore.NewStorage(b.getter, kubeletclient.KubeletClientConfig{}, http.DefaultTransport)
	if err != nil {
		return err
	}
	evictions, err := policyclient.NewForConfig(&restclient.Config{Host: "127.0.0.1:1"})
	if err != nil {
		return err
	}
	b.pods, err = podstore.NewStorage(b.getter, nodes.KubeletConnectionInfo, http.DefaultTransport, evictions,
		authorizerfactory.NewAlwaysAllowAuthorizer())
	if err != nil {
		return err
	}
	b.add("nodes", nodes.Node, "status", nodes.Status, "proxy", nodes.Proxy)
	b.add("pods", b.pods.Pod, "status", b.pods.Status, "attach", b.pods.Attach, "log", b.pods.Log, "exec", b.pods.Exec,
		"portforward", b.pods.PortForward, "proxy", b.pods.Proxy, "binding", b.pods.Binding, "eviction", b.pods.Eviction,
		"ephemeralcontainers", b.pods.EphemeralContainers, "resize", b.pods.Resize)
	b.add("bindings", b.pods.LegacyBinding)
	return nil
}

func (b *coreBuilder) services() error {
	var err error
	if b.endpoints, err = endpointsstore.NewREST(b.getter); err != nil {
		return err
	}
	addresses, err := ipallocator.NewInMemory(serviceRange())
	if err != nil {
		return err
	}
	ports, err := portallocator.NewInMemory(utilnet.PortRange{Base: 30000, Size: 100})
	if err != nil {
		return err
	}
	services, status, proxy, err := servicestore.NewREST(b.getter, api.IPv4Protocol,
		map[api.IPFamily]ipallocator.Interface{api.IPv4Protocol: addresses}, ports, b.endpoints, b.pods.Pod, http.DefaultTransport)
	if err != nil {
		return err
	}
	b.add("endpoints", b.endpoints)
	b.add("services", services, "status", status, "proxy", proxy)
	return nil
}

func (b *coreBuilder) controllers() error {
	controllers, err := controllerstore.NewStorage(b.getter)
	if err != nil {
		return err
	}
	b.add("replicationcontrollers", controllers.Controller, "status", controllers.Status, "scale", controllers.Scale)
	return nil
}

func (b *coreBuilder) volumes() error {
	volumes, volumesStatus, err := pvstore.NewREST(b.getter)
	if err != nil {
		return err
	}
	claims, claimsStatus, err := pvcstore.NewREST(b.getter)
	if err != nil {
		return err
	}
	b.add("persistentvolumes", volumes, "status", volumesStatus)
	b.add("persistentvolumeclaims", claims, "status", claimsStatus)
	return nil
}

func (b *coreBuilder) others() error {
	templates, err := podtemplatestore.NewREST(b.getter)
	if err != nil {
		return err
	}
	limits, err := limitrangestore.NewREST(b.getter)
	if err != nil {
		return err
	}
	b.add("podtemplates", templates)
	b.add("limitranges", limits)
	b.add("componentstatuses", componentstatus.NewStorage(func() map[string]componentstatus.Server { return nil }))
	return nil
}

// add takes a resource and then pairs of a subresource's name and storage.
func (b *coreBuilder) add(resource string, s rest.Storage, subresources ...any) {
	b.storage[resource] = s
	for i := 0; i+1 < len(subresources); i += 2 {
		b.storage[resource+"/"+subresources[i].(string)] = subresources[i+1].(rest.Storage)
	}
}

func extensionsGroup(getter generic.RESTOptionsGetter) (*genericapiserver.APIGroupInfo, error) {
	scheme := extensionsapiserver.Scheme
	group := genericapiserver.NewDefaultAPIGroupInfo(apiextensions.GroupName, scheme, metav1.ParameterCodec, extensionsapiserver.Codecs)
	definitions, err := customresourcedefinition.NewREST(scheme, getter)
	if err != nil {
		return nil, err
	}
	group.VersionedResourcesStorageMap["v1"] = map[string]rest.Storage{
		"customresourcedefinitions":        definitions,
		"customresourcedefinitions/status": customresourcedefinition.NewStatusREST(scheme, definitions),
	}
	return &group, nil
}
