package controllers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	cacheddiscovery "k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/restmapper"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
	"k8s.io/controller-manager/pkg/informerfactory"
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

// inside is what the loops of a cluster share: upstream's ControllerContext, of what the process has already.
type inside struct {
	app.ControllerContext
	cfg     Config
	clients Clients

	mu        sync.Mutex
	graph     *garbagecollector.GraphBuilder
	graphLife context.Context // of the garbage collector that feeds the graph
}

func newInside(ctx context.Context, cfg Config) (*inside, error) {
	clients := Clients{As: cfg.As, RootCA: cfg.RootCA}
	known, err := newKnown(clients.root().ConfigOrDie("controller-discovery"))
	if err != nil {
		return nil, fmt.Errorf("discovery client: %w", err)
	}
	clients.known = known
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(cacheddiscovery.NewMemCacheClient(known))
	go wait.UntilWithContext(ctx, func(context.Context) { mapper.Reset() }, mapperReset)
	period := cfg.Loops.Generic.MinResyncPeriod.Duration
	return &inside{cfg: cfg, clients: clients, ControllerContext: app.ControllerContext{
		ClientBuilder:                   clients,
		InformerFactory:                 cfg.Informers,
		ObjectOrMetadataInformerFactory: informerfactory.NewInformerFactory(cfg.Informers, cfg.Metadata),
		ComponentConfig:                 cfg.Loops,
		RESTMapper:                      mapper,
		InformersStarted:                make(chan struct{}),
		ResyncPeriod:                    func() time.Duration { return time.Duration(float64(period) * (1 + rand.Float64())) },
		ControllerManagerMetrics:        controllersmetrics.NewControllerManagerMetrics("kube-controller-manager"),
	}}, nil
}

// start starts the informers that loops asked for since it was last called.
func (in *inside) start(ctx context.Context) {
	in.cfg.Informers.Start(ctx.Done())
	in.cfg.Metadata.Start(ctx.Done())
}

// of is what one life of a loop gets: what it hangs onto it can be taken off, and its clients end with it.
func (in *inside) of(name string, l *life) (app.ControllerContext, error) {
	c := in.ControllerContext
	clients := in.clients
	clients.As = fenced(l.ctx, in.cfg.As)
	c.ClientBuilder = clients
	c.InformerFactory = newFactory(in.InformerFactory, l.registry)
	c.ObjectOrMetadataInformerFactory = generics{in.ObjectOrMetadataInformerFactory, l.registry}
	switch name {
	case names.GarbageCollectorController:
		if !in.ComponentConfig.GarbageCollectorController.EnableGarbageCollector {
			break
		}
		graph, err := in.newGraph(l, c, clients)
		if err != nil {
			return c, err
		}
		c.GraphBuilder = graph
	case names.StorageVersionMigratorController:
		in.mu.Lock()
		graph, ctx := in.graph, in.graphLife
		in.mu.Unlock()
		if graph == nil {
			break
		}
		context.AfterFunc(ctx, func() { l.stop(errors.New("the garbage collector whose informers it uses has stopped")) })
		c.GraphBuilder = graph
	}
	return c, nil
}

// newGraph makes what the garbage collector knows of owners, which a new one has to learn anew.
func (in *inside) newGraph(l *life, c app.ControllerContext, clients Clients) (*garbagecollector.GraphBuilder, error) {
	ignored := map[schema.GroupResource]struct{}{}
	for _, r := range in.ComponentConfig.GarbageCollectorController.GCIgnoredResources {
		ignored[schema.GroupResource{Group: r.Group, Resource: r.Resource}] = struct{}{}
	}
	client, err := metadata.NewForConfig(clients.root().ConfigOrDie("metadata-informers"))
	if err != nil {
		return nil, fmt.Errorf("metadata client: %w", err)
	}
	graph := garbagecollector.NewDependencyGraphBuilder(l.ctx, client, in.RESTMapper, ignored, c.ObjectOrMetadataInformerFactory, in.InformersStarted)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.graph, in.graphLife = graph, l.ctx
	return graph, nil
}

// tokens makes the loop that gives Secrets of service accounts their tokens. Upstream's maker of it wants a file with the key.
func tokens(cfg Config) func(context.Context, app.ControllerContext) (app.Controller, error) {
	return func(ctx context.Context, inside app.ControllerContext) (app.Controller, error) {
		client, err := inside.ClientBuilder.(Clients).root().Client("tokens-controller")
		if err != nil {
			return nil, err
		}
		ca := cfg.RootCA
		if file := inside.ComponentConfig.SAController.RootCAFile; file != "" {
			if ca, err = os.ReadFile(file); err != nil {
				return nil, fmt.Errorf("--root-ca-file: %w", err)
			}
		}
		core := inside.InformerFactory.Core().V1()
		c, err := serviceaccountcontroller.NewTokensController(logr.FromContextOrDiscard(ctx), core.ServiceAccounts(), core.Secrets(), client,
			serviceaccountcontroller.TokensControllerOptions{TokenGenerator: cfg.Tokens, RootCA: ca})
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
