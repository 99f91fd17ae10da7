package controllers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	cacheddiscovery "k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/restmapper"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	serviceaccountcontroller "k8s.io/kubernetes/pkg/controller/serviceaccount"
)

// Resync is how often informers show everything again, twelve hours and up as kube-controller-manager's.
const Resync = 12 * time.Hour

// Trim takes from objects what no loop reads.
func Trim(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil && m.GetManagedFields() != nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

// mapperReset is how often the loops look for new kinds, as kube-controller-manager does.
const mapperReset = 30 * time.Second

// newContext is what upstream's app.CreateControllerContext makes, of what the process has already.
func newContext(ctx context.Context, cfg Config) (app.ControllerContext, error) {
	discovery, err := cfg.Root.DiscoveryClient("controller-discovery")
	if err != nil {
		return app.ControllerContext{}, fmt.Errorf("discovery client: %w", err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(cacheddiscovery.NewMemCacheClient(discovery))
	go wait.UntilWithContext(ctx, func(context.Context) { mapper.Reset() }, mapperReset)
	period := cfg.Loops.Generic.MinResyncPeriod.Duration
	inside := app.ControllerContext{
		ClientBuilder:                   cfg.Clients,
		InformerFactory:                 cfg.Informers,
		ObjectOrMetadataInformerFactory: informerfactory.NewInformerFactory(cfg.Informers, cfg.Metadata),
		ComponentConfig:                 cfg.Loops,
		RESTMapper:                      mapper,
		InformersStarted:                make(chan struct{}),
		ResyncPeriod:                    func() time.Duration { return time.Duration(float64(period) * (1 + rand.Float64())) },
		ControllerManagerMetrics:        controllersmetrics.NewControllerManagerMetrics("kube-controller-manager"),
	}
	gc := cfg.Loops.GarbageCollectorController
	if gc.EnableGarbageCollector && inside.IsControllerEnabled(app.NewControllerDescriptors()[names.GarbageCollectorController]) {
		ignored := map[schema.GroupResource]struct{}{}
		for _, r := range gc.GCIgnoredResources {
			ignored[schema.GroupResource{Group: r.Group, Resource: r.Resource}] = struct{}{}
		}
		config, err := cfg.Root.Config("metadata-informers")
		if err != nil {
			return app.ControllerContext{}, fmt.Errorf("metadata client: %w", err)
		}
		client, err := metadata.NewForConfig(config)
		if err != nil {
			return app.ControllerContext{}, fmt.Errorf("metadata client: %w", err)
		}
		inside.GraphBuilder = garbagecollector.NewDependencyGraphBuilder(ctx, client, mapper, ignored, inside.ObjectOrMetadataInformerFactory, inside.InformersStarted)
	}
	return inside, nil
}

// tokens makes the loop that gives Secrets of service accounts their tokens. Upstream's maker of it wants a file with the key.
func tokens(cfg Config) func(context.Context, app.ControllerContext) (app.Controller, error) {
	return func(ctx context.Context, inside app.ControllerContext) (app.Controller, error) {
		client, err := cfg.Root.Client("tokens-controller")
		if err != nil {
			return nil, err
		}
		core := inside.InformerFactory.Core().V1()
		c, err := serviceaccountcontroller.NewTokensController(klog.FromContext(ctx), core.ServiceAccounts(), core.Secrets(), client,
			serviceaccountcontroller.TokensControllerOptions{TokenGenerator: cfg.Tokens, RootCA: cfg.RootCA})
		if err != nil {
			return nil, err
		}
		return tokenLoop{c, int(inside.ComponentConfig.SAController.ConcurrentSATokenSyncs)}, nil
	}
}

type tokenLoop struct {
	*serviceaccountcontroller.TokensController
	workers int
}

func (tokenLoop) Name() string { return names.ServiceAccountTokenController }

func (t tokenLoop) Run(ctx context.Context) { t.TokensController.Run(ctx, t.workers) }
