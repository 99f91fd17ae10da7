package inform

import (
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/rowlock-io/rowlock/informer"
)

// Factory makes informers of one consumer: they share objects with those of other factories, and start and stop with
// this one.
type Factory interface {
	informers.SharedInformerFactory
	// Select narrows the informer of a type, before it is made.
	Select(example runtime.Object, field fields.Selector)
}

type factory struct {
	informer.Groups
	upstream
	resources *Resources
	selected  map[reflect.Type]fields.Selector
}

// upstream is what is asked for with a client, and what factories do beside making informers. It is a type of its own so
// that Groups lie above its groups.
type upstream struct {
	informers.SharedInformerFactory
}

// NewFactory returns a factory. Versions that are not stored, and kinds that the server does not know, it asks the client
// for. resync is how often handlers are shown everything again; 0: never.
func (r *Resources) NewFactory(client kubernetes.Interface, resync time.Duration) Factory {
	f := &factory{
		upstream:  upstream{informers.NewSharedInformerFactoryWithOptions(client, resync, informers.WithTransform(trim))},
		resources: r, selected: map[reflect.Type]fields.Selector{},
	}
	f.Groups = informer.Groups{Factory: f}
	return f
}

// trim takes managed fields off objects that came by request: those of the cache have none.
func trim(obj any) (any, error) {
	if m, ok := obj.(metav1.Object); ok && m.GetManagedFields() != nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

func (f *factory) Select(example runtime.Object, field fields.Selector) {
	f.selected[reflect.TypeOf(example)] = field
}

// InformerFor implements internalinterfaces.SharedInformerFactory, which upstream's typed factories call.
func (f *factory) InformerFor(example runtime.Object, byRequest internalinterfaces.NewInformerFunc) cache.SharedIndexInformer {
	t := reflect.TypeOf(example)
	return f.SharedInformerFactory.InformerFor(example, func(client kubernetes.Interface, resync time.Duration) cache.SharedIndexInformer {
		s := f.resources.source(t)
		if s == nil {
			return byRequest(client, resync)
		}
		s.field = f.selected[t]
		i := cache.NewSharedIndexInformerWithOptions(s, example, cache.SharedIndexInformerOptions{
			ResyncPeriod: resync, Indexers: cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
		})
		if s.field != nil {
			return i // the last change may be none that it sees
		}
		return newCurrent(i, s)
	})
}

// ForResource implements informers.SharedInformerFactory.
func (f *factory) ForResource(gvr schema.GroupVersionResource) (informers.GenericInformer, error) {
	t := f.resources.typeOf(gvr)
	if t == nil {
		return f.SharedInformerFactory.ForResource(gvr)
	}
	example := reflect.New(t.Elem()).Interface().(runtime.Object)
	return generic{f.InformerFor(example, nil), gvr.GroupResource()}, nil
}

type generic struct {
	informer cache.SharedIndexInformer
	resource schema.GroupResource
}

func (g generic) Informer() cache.SharedIndexInformer { return g.informer }

func (g generic) Lister() cache.GenericLister {
	return cache.NewGenericLister(g.informer.GetIndexer(), g.resource)
}
