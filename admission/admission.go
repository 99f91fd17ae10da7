// Package admission builds the chain that every write passes before validation: upstream's plug-ins in upstream's order.
//
// The four that run what users wrote, policies and webhooks, are made when the first policy or webhook exists, and no
// write passes in between: see late.go. Until then they cost one look at how many there are.
package admission

import (
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/api/meta"
	upstream "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	admissionmetrics "k8s.io/apiserver/pkg/admission/metrics"
	"k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle"
	webhookinit "k8s.io/apiserver/pkg/admission/plugin/webhook/initializer"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/controlplane"
	controlplaneadmission "k8s.io/kubernetes/pkg/controlplane/apiserver/admission"
	"k8s.io/kubernetes/pkg/kubeapiserver/admission/exclusion"
	"k8s.io/kubernetes/pkg/kubeapiserver/options"
	"k8s.io/kubernetes/pkg/quota/v1/install"
)

// Config is what the plug-ins of one cluster work with.
type Config struct {
	Options    Options
	Client     kubernetes.Interface
	Dynamic    dynamic.Interface
	Informers  informers.SharedInformerFactory
	Mapper     meta.RESTMapper
	Authorizer authorizer.Authorizer
	Done       <-chan struct{} // closed when the cluster stops

	// Count tells how many objects of a resource ("pods", "deployments.apps") the cluster has at this moment. It is
	// called for every write.
	Count func(resource string) int
	// Start starts informers that Informers has been asked for since the cluster started.
	Start func()
	// Webhooks and Services are how webhooks are reached. Who registers one says where the server connects to and what it
	// reads, so both have to be bounded.
	Webhooks webhook.AuthenticationInfoResolverWrapper
	Services webhook.ServiceResolver
}

// initializersFunc makes what gives plug-ins what they ask for.
type initializersFunc func(kubernetes.Interface, informers.SharedInformerFactory) upstream.PluginInitializers

// New builds the chain. Plug-ins that watch the API are ready once Informers have synced.
func New(cfg Config) (upstream.Interface, error) {
	names := cfg.Options.Names()
	provider, err := upstream.ReadAdmissionConfiguration(names, cfg.Options.ConfigFile, configScheme)
	if err != nil {
		return nil, fmt.Errorf("failed to read plugin config: %w", err)
	}
	quotas, err := install.NewQuotaConfigurationForAdmission(directInformers{cfg.Informers, cfg.Client}, controlplane.DefaultAPIResourceConfigSource())
	if err != nil {
		return nil, fmt.Errorf("admission: what quotas count: %w", err)
	}
	upstreams := func(client kubernetes.Interface, f informers.SharedInformerFactory) upstream.PluginInitializer {
		return initializer.New(client, cfg.Dynamic, f, cfg.Authorizer, utilfeature.DefaultFeatureGate,
			compatibility.DefaultBuildEffectiveVersion(), cfg.Done, cfg.Mapper)
	}
	initializers := func(client kubernetes.Interface, f informers.SharedInformerFactory) upstream.PluginInitializers {
		return upstream.PluginInitializers{
			seldom{direct: upstreams(client, directInformers{f, client}), others: upstreams(client, f)},
			webhookinit.NewPluginInitializer(cfg.Webhooks, cfg.Services),
			controlplaneadmission.NewPluginInitializer(quotas, exclusion.Excluded()),
		}
	}
	plugins := upstream.NewPlugins()
	lifecycle.Register(plugins)
	options.RegisterAllAdmissionPlugins(plugins)
	for _, kind := range lateKinds {
		plugins.Register(kind.name, func(config io.Reader) (upstream.Interface, error) { return newLate(kind, config, cfg, initializers) })
	}
	chain, err := plugins.NewFromPlugins(names, provider, initializers(cfg.Client, cfg.Informers),
		upstream.Decorators{upstream.DecoratorFunc(withOurs), upstream.DecoratorFunc(withTimes)})
	if err != nil {
		return nil, fmt.Errorf("admission: %w", err)
	}
	return admissionmetrics.WithStepMetrics(chain), nil
}
