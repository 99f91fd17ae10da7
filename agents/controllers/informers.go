package controllers

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/tools/cache"
	"k8s.io/controller-manager/pkg/informerfactory"

	"github.com/rowlock-io/rowlock/agents/crash"
	"github.com/rowlock-io/rowlock/informer"
)

// registry knows what one life of a loop has hung onto informers that outlive it.
type registry struct {
	ctx     context.Context // of this life
	indexes *indexes

	mu       sync.Mutex
	handlers map[cache.ResourceEventHandlerRegistration]cache.SharedIndexInformer
}

// indexes are those that a loop has added in any of its lives. They stay: an informer cannot drop one.
type indexes struct {
	mu    sync.Mutex
	names map[cache.Store]sets.Set[string]
}

// add adds what the loop has not added before. That another loop has an index of the same name is an error, as ever.
func (x *indexes) add(to cache.Indexer, all cache.Indexers, add func(cache.Indexers) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	names := x.names[to]
	if names == nil {
		names = sets.New[string]()
	}
	missing := cache.Indexers{}
	for name, f := range all {
		if !names.Has(name) {
			missing[name] = f
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := add(missing); err != nil {
		return err
	}
	for name := range missing {
		names.Insert(name)
	}
	if x.names == nil {
		x.names = map[cache.Store]sets.Set[string]{}
	}
	x.names[to] = names
	return nil
}

func (r *registry) informer(i cache.SharedIndexInformer) cache.SharedIndexInformer {
	return listened{i, r}
}

func (r *registry) keep(i cache.SharedIndexInformer, h cache.ResourceEventHandlerRegistration, err error) (cache.ResourceEventHandlerRegistration, error) {
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.handlers == nil {
			r.handlers = map[cache.ResourceEventHandlerRegistration]cache.SharedIndexInformer{}
		}
		r.handlers[h] = i
	}
	return h, err
}

// clear takes all handlers away.
func (r *registry) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for h, i := range r.handlers {
		_ = i.RemoveEventHandler(h) // fails for handles of another informer only
	}
	clear(r.handlers)
}

// listened is a shared informer as one life of a loop sees it.
type listened struct {
	cache.SharedIndexInformer
	r *registry
}

func (i listened) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	reg, err := i.SharedIndexInformer.AddEventHandler(crash.Handler(i.r.ctx, h))
	return i.r.keep(i.SharedIndexInformer, reg, err)
}

func (i listened) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, period time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	reg, err := i.SharedIndexInformer.AddEventHandlerWithResyncPeriod(crash.Handler(i.r.ctx, h), period)
	return i.r.keep(i.SharedIndexInformer, reg, err)
}

func (i listened) AddEventHandlerWithOptions(h cache.ResourceEventHandler, options cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	reg, err := i.SharedIndexInformer.AddEventHandlerWithOptions(crash.Handler(i.r.ctx, h), options)
	return i.r.keep(i.SharedIndexInformer, reg, err)
}

func (i listened) RemoveEventHandler(h cache.ResourceEventHandlerRegistration) error {
	i.r.mu.Lock()
	delete(i.r.handlers, h)
	i.r.mu.Unlock()
	return i.SharedIndexInformer.RemoveEventHandler(h)
}

func (i listened) AddIndexers(all cache.Indexers) error {
	return i.r.indexes.add(i.SharedIndexInformer.GetIndexer(), all, i.SharedIndexInformer.AddIndexers)
}

func (i listened) GetIndexer() cache.Indexer {
	return indexer{i.SharedIndexInformer.GetIndexer(), i.r}
}

type indexer struct {
	cache.Indexer
	r *registry
}

func (i indexer) AddIndexers(all cache.Indexers) error {
	return i.r.indexes.add(i.Indexer, all, i.Indexer.AddIndexers)
}

// factory is a shared one as one life of a loop sees it.
type factory struct {
	informer.Groups
	shared
	r *registry
}

// shared is a type of its own so that Groups lie above its groups.
type shared struct {
	informers.SharedInformerFactory
}

var _ informers.SharedInformerFactory = factory{}

func newFactory(of informers.SharedInformerFactory, r *registry) factory {
	f := factory{shared: shared{of}, r: r}
	f.Groups = informer.Groups{Factory: f}
	return f
}

func (f factory) InformerFor(obj runtime.Object, make internalinterfaces.NewInformerFunc) cache.SharedIndexInformer {
	return f.r.informer(f.SharedInformerFactory.InformerFor(obj, make))
}

func (f factory) ForResource(gvr schema.GroupVersionResource) (informers.GenericInformer, error) {
	g, err := f.SharedInformerFactory.ForResource(gvr)
	return generic{g, f.r}, err
}

// generics are those of any resource.
type generics struct {
	informerfactory.InformerFactory
	r *registry
}

func (f generics) ForResource(gvr schema.GroupVersionResource) (informers.GenericInformer, error) {
	g, err := f.InformerFactory.ForResource(gvr)
	return generic{g, f.r}, err
}

type generic struct {
	informers.GenericInformer
	r *registry
}

func (g generic) Informer() cache.SharedIndexInformer {
	return g.r.informer(g.GenericInformer.Informer())
}
