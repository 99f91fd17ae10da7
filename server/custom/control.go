package custom

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/apiapproval"
	"k8s.io/apiextensions-apiserver/pkg/controller/establish"
	"k8s.io/apiextensions-apiserver/pkg/controller/finalizer"
	"k8s.io/apiextensions-apiserver/pkg/controller/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// control runs upstream's controllers of definitions. What they see has no schemas, and what they write is the status
// alone, so that nothing is lost. The controller of non-structural schemas is not among them: such schemas cannot be
// created in v1, and no other version was ever stored here.
func (h *Handler) control(ctx context.Context) error {
	informer := h.newInformer()
	client := outlineClient{h.cfg.Client.ApiextensionsV1()}
	naming := status.NewNamingConditionController(logr.FromSlogHandler(h.cfg.Log.Handler()), informer, client)
	establishing := establish.NewEstablishingController(informer, client)
	approval := apiapproval.NewKubernetesAPIApprovalPolicyConformantConditionController(informer, client)
	finalizing := finalizer.NewCRDFinalizer(informer, client, h)
	queue := func(obj any) {
		// Without upstream's delay of five seconds for several servers: one that does not know of it yet asks the database.
		if crd, ok := obj.(*apiextensions.CustomResourceDefinition); ok && !apihelpers.IsCRDConditionTrue(crd, apiextensions.Established) &&
			apihelpers.IsCRDConditionTrue(crd, apiextensions.NamesAccepted) {
			establishing.QueueCRD(crd.Name, 0)
		}
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: queue, UpdateFunc: func(_, obj any) { queue(obj) },
	}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { informer.RunWithContext(ctx) })
	wg.Go(func() { naming.RunWithContext(ctx) })
	wg.Go(func() { establishing.RunWithContext(ctx) })
	wg.Go(func() { approval.RunWithContext(2, ctx) })
	wg.Go(func() { finalizing.RunWithContext(finalizers, ctx) })
	wg.Wait()
	return nil
}

// finalizers is how many definitions are emptied at a time.
const finalizers = 5

// GetCustomResourceListerCollectionDeleter implements finalizer.CRClientGetter.
func (h *Handler) GetCustomResourceListerCollectionDeleter(crd *apiextensions.CustomResourceDefinition) (finalizer.ListerCollectionDeleter, error) {
	d, err := h.definition(crd.Name)
	if err != nil {
		return nil, err
	}
	if d == nil || d.state.Load().crd.UID != crd.UID {
		return nil, apierrors.NewNotFound(definitionsResource, crd.Name)
	}
	s, err := d.serving()
	if err != nil {
		return nil, err
	}
	return s.deleter()
}

// outlines is an informer of definitions without schemas, fed by the cache.
type outlines struct {
	toolscache.SharedIndexInformer
}

// Informer implements informers.CustomResourceDefinitionInformer.
func (o outlines) Informer() toolscache.SharedIndexInformer { return o.SharedIndexInformer }

// Lister implements informers.CustomResourceDefinitionInformer.
func (o outlines) Lister() listers.CustomResourceDefinitionLister {
	return listers.NewCustomResourceDefinitionLister(o.GetIndexer())
}

// resync is upstream's.
const resync = 5 * time.Minute

func (h *Handler) newInformer() outlines {
	return outlines{toolscache.NewSharedIndexInformer(listWatch{h}, &apiextensions.CustomResourceDefinition{}, resync, toolscache.Indexers{})}
}

// listWatch reads definitions from the cache.
type listWatch struct{ h *Handler }

var _ toolscache.ListerWatcherWithContext = listWatch{}

// IsWatchListSemanticsUnSupported makes the informer list before it watches.
func (l listWatch) IsWatchListSemanticsUnSupported() bool { return true }

// List implements cache.Lister.
func (l listWatch) List(opts metav1.ListOptions) (runtime.Object, error) {
	return l.ListWithContext(context.Background(), opts)
}

// Watch implements cache.Watcher.
func (l listWatch) Watch(opts metav1.ListOptions) (watch.Interface, error) {
	return l.WatchWithContext(context.Background(), opts)
}

// ListWithContext implements cache.ListerWithContext.
func (l listWatch) ListWithContext(context.Context, metav1.ListOptions) (runtime.Object, error) {
	snap := l.h.cfg.Backend.Cache.Snapshot(definitionsResource.String())
	list := &apiextensions.CustomResourceDefinitionList{}
	list.ResourceVersion = revisionString(snap.Revision())
	var err error
	snap.Scan("", storage.Key{}, func(e *cache.Entry) bool {
		var s *state
		if s, err = l.h.readState(e); err != nil {
			return false
		}
		list.Items = append(list.Items, *s.crd)
		return true
	})
	return list, err
}

// WatchWithContext implements cache.WatcherWithContext.
func (l listWatch) WatchWithContext(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	rev, err := parseRevision(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w, err := l.h.cfg.Backend.Cache.Watch(ctx, storage.Selector{Resource: definitionsResource.String()}, rev)
	if err != nil {
		cancel()
		return nil, apierrors.NewResourceExpired(err.Error())
	}
	events := make(chan watch.Event)
	go func() {
		defer close(events)
		defer cancel()
		defer w.Close()
		for {
			b, err := w.Next(ctx)
			if err != nil {
				return // the informer lists again
			}
			for i := range b.Changes {
				e, err := l.event(&b.Changes[i])
				if err != nil {
					l.h.cfg.Log.Error("Definition of a custom resource could not be read", "name", b.Changes[i].Entry.Name, "err", err)
					continue
				}
				select {
				case events <- e:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return watch.NewProxyWatcher(events), nil
}

func (l listWatch) event(c *cache.Change) (watch.Event, error) {
	s := l.h.known(c.Entry)
	if s == nil {
		var err error
		if s, err = l.h.readState(c.Entry); err != nil {
			return watch.Event{}, err
		}
	}
	e := watch.Event{Type: watch.Modified, Object: s.crd}
	switch c.Verb {
	case storage.Create:
		e.Type = watch.Added
	case storage.Delete:
		e.Type = watch.Deleted
	}
	return e, nil
}
