// Package admission builds the chain that every write passes before validation: upstream's plug-ins in upstream's order.
package admission

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	upstream "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	admissionmetrics "k8s.io/apiserver/pkg/admission/metrics"
	"k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	mutatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	validatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
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
	Client     kubernetes.Interface
	Dynamic    dynamic.Interface
	Informers  informers.SharedInformerFactory
	Mapper     meta.RESTMapper
	Authorizer authorizer.Authorizer
	Done       <-chan struct{} // closed when the cluster stops
}

// external are the plug-ins that call out of the process or run policies; they come with the part of the server that
// dials webhooks and compiles policies.
var external = sets.New(mutating.PluginName, mutatingwebhook.PluginName, validating.PluginName, validatingwebhook.PluginName)

// Names lists the plug-ins that are on, in the order in which they run.
func Names() []string {
	off := options.DefaultOffAdmissionPlugins()
	var names []string
	for _, name := range options.AllOrderedPlugins {
		if !off.Has(name) && !external.Has(name) {
			names = append(names, name)
		}
	}
	return names
}

// New builds the chain. Plug-ins that watch the API are ready once Informers have synced.
func New(cfg Config) (upstream.Interface, error) {
	plugins := upstream.NewPlugins()
	lifecycle.Register(plugins)
	options.RegisterAllAdmissionPlugins(plugins)
	names := Names()
	provider, err := upstream.ReadAdmissionConfiguration(names, "", runtime.NewScheme())
	if err != nil {
		return nil, fmt.Errorf("admission configuration: %w", err)
	}
	quotas, err := install.NewQuotaConfigurationForAdmission(cfg.Informers, controlplane.DefaultAPIResourceConfigSource())
	if err != nil {
		return nil, fmt.Errorf("admission: what quotas count: %w", err)
	}
	chain, err := plugins.NewFromPlugins(names, provider, upstream.PluginInitializers{
		initializer.New(cfg.Client, cfg.Dynamic, cfg.Informers, cfg.Authorizer, utilfeature.DefaultFeatureGate,
			compatibility.DefaultBuildEffectiveVersion(), cfg.Done, cfg.Mapper),
		controlplaneadmission.NewPluginInitializer(quotas, exclusion.Excluded()),
	}, upstream.Decorators{upstream.DecoratorFunc(admissionmetrics.WithControllerMetrics)})
	if err != nil {
		return nil, fmt.Errorf("admission: %w", err)
	}
	return admissionmetrics.WithStepMetrics(chain), nil
}
