package admission

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	upstream "k8s.io/apiserver/pkg/admission"
	policyconfig "k8s.io/apiserver/pkg/admission/plugin/policy/config"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	webhookconfig "k8s.io/apiserver/pkg/admission/plugin/webhook/config"
	mutatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	validatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/apiserver/pkg/features"
	webhookutil "k8s.io/apiserver/pkg/util/webhook"
)

// lateKind is a plug-in of upstream's that is made when it is needed.
type lateKind struct {
	name     string
	resource string // objects of which make it needed; without any it lets everything pass
	ops      []upstream.Operation
	mutates  bool
	// check reads the plug-in's configuration and tells where static manifests are, if anywhere.
	check func(io.Reader) (manifests string, err error)
	make  func(io.Reader) (upstream.Interface, error)
}

const group = ".admissionregistration.k8s.io"

var lateKinds = []lateKind{
	{
		name: mutating.PluginName, resource: "mutatingadmissionpolicybindings" + group, mutates: true,
		ops:   []upstream.Operation{upstream.Create, upstream.Update, upstream.Connect},
		check: checkPolicies(policyconfig.LoadMutatingConfig),
		make:  func(r io.Reader) (upstream.Interface, error) { return mutating.NewPlugin(r) },
	},
	{
		name: mutatingwebhook.PluginName, resource: "mutatingwebhookconfigurations" + group, mutates: true,
		ops:   []upstream.Operation{upstream.Connect, upstream.Create, upstream.Delete, upstream.Update},
		check: checkWebhooks,
		make:  func(r io.Reader) (upstream.Interface, error) { return mutatingwebhook.NewMutatingWebhook(r) },
	},
	{
		name: validating.PluginName, resource: "validatingadmissionpolicybindings" + group,
		ops:   []upstream.Operation{upstream.Connect, upstream.Create, upstream.Delete, upstream.Update},
		check: checkPolicies(policyconfig.LoadValidatingConfig),
		make:  func(r io.Reader) (upstream.Interface, error) { return validating.NewPlugin(r) },
	},
	{
		name: validatingwebhook.PluginName, resource: "validatingwebhookconfigurations" + group,
		ops:   []upstream.Operation{upstream.Connect, upstream.Create, upstream.Delete, upstream.Update},
		check: checkWebhooks,
		make: func(r io.Reader) (upstream.Interface, error) {
			return validatingwebhook.NewValidatingAdmissionWebhook(r)
		},
	},
}

func checkPolicies(load func(io.Reader) (policyconfig.PolicyConfig, error)) func(io.Reader) (string, error) {
	return func(r io.Reader) (string, error) {
		cfg, err := load(r)
		return cfg.StaticManifestsDir, err
	}
}

func checkWebhooks(r io.Reader) (string, error) {
	cfg, err := webhookconfig.LoadConfig(r)
	if err != nil {
		return "", err
	}
	_, err = webhookutil.NewDefaultAuthenticationInfoResolver(cfg.KubeConfigFile)
	return cfg.StaticManifestsDir, err
}

// late stands in the chain for a plug-in of upstream's. Upstream's compile CEL environments and start informers when they
// are made; an idle cluster should have neither. The first write that comes when there is something to run makes the
// plug-in and waits until it knows what there is: what was created before a write holds for it, and there is no moment
// after a start at which nothing holds.
type late struct {
	*upstream.Handler
	kind   lateKind
	config []byte // nil: none
	count  func(resource string) int
	build  func() (upstream.Interface, error)

	mu   sync.Mutex // held while it is made
	made atomic.Pointer[upstream.Interface]
}

// Mutators and validators are told apart by their methods.
type (
	lateMutator   struct{ *late }
	lateValidator struct{ *late }
)

var (
	_ upstream.MutationInterface   = lateMutator{}
	_ upstream.ValidationInterface = lateValidator{}
)

func newLate(kind lateKind, config io.Reader, cfg Config, initializers initializersFunc) (upstream.Interface, error) {
	l := &late{Handler: upstream.NewHandler(kind.ops...), kind: kind, count: cfg.Count}
	if config != nil {
		var err error
		if l.config, err = io.ReadAll(config); err != nil {
			return nil, err
		}
	}
	manifests, err := kind.check(l.reader())
	if err != nil {
		return nil, err
	}
	if manifests != "" {
		// Upstream says the same of each of the four, when it makes them.
		return nil, fmt.Errorf("static manifests dir %q configured but %s feature gate is not enabled", manifests, features.ManifestBasedAdmissionControlConfig)
	}
	l.build = func() (upstream.Interface, error) {
		plugin, err := kind.make(l.reader())
		if err != nil {
			return nil, err
		}
		client := newSchemaClient(cfg.Client)
		initializers(client, &paramInformers{SharedInformerFactory: cfg.Informers, client: cfg.Client}).Initialize(plugin)
		if err := upstream.ValidateInitialization(plugin); err != nil {
			return nil, err
		}
		cfg.Start()
		if _, ok := plugin.(*mutating.Plugin); ok {
			client.wait(cfg.Done)
		}
		return plugin, nil
	}
	if kind.mutates {
		return lateMutator{l}, nil
	}
	return lateValidator{l}, nil
}

func (l *late) reader() io.Reader {
	if l.config == nil {
		return nil
	}
	return bytes.NewReader(l.config)
}

// plugin returns the plug-in, or nil when there is nothing for it to do.
func (l *late) plugin(a upstream.Attributes) (upstream.Interface, error) {
	if l.count(l.kind.resource) == 0 {
		return nil, nil
	}
	if p := l.made.Load(); p != nil {
		return *p, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.made.Load(); p != nil {
		return *p, nil
	}
	p, err := l.build()
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("%s of %s: %w", l.kind.name, a.GetResource().GroupResource(), err))
	}
	l.made.Store(&p)
	return p, nil
}

// Admit implements upstream.MutationInterface.
func (l lateMutator) Admit(ctx context.Context, a upstream.Attributes, o upstream.ObjectInterfaces) error {
	p, err := l.plugin(a)
	if p == nil || err != nil {
		return err
	}
	return p.(upstream.MutationInterface).Admit(ctx, newAnnotated(a), o)
}

// Validate implements upstream.ValidationInterface.
func (l lateValidator) Validate(ctx context.Context, a upstream.Attributes, o upstream.ObjectInterfaces) error {
	p, err := l.plugin(a)
	if p == nil || err != nil {
		return err
	}
	return p.(upstream.ValidationInterface).Validate(ctx, newAnnotated(a), o)
}
