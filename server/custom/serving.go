package custom

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	upstream "k8s.io/apiextensions-apiserver/pkg/apiserver"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/finalizer"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/generic"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/rowlock-io/rowlock/schema/adapter"
)

// serving is upstream's handler of custom resources for one definition, with the storages that it made.
type serving struct {
	handler  http.Handler
	writes   *written
	versions map[string]versionStorage
	deleter  func() (finalizer.ListerCollectionDeleter, error)
}

type versionStorage struct {
	codec   runtime.Codec
	kind    schema.GroupVersionKind
	head    []byte // what objects begin with that are stored in this version
	attrs   apistorage.AttrFunc
	newFunc func() runtime.Object
}

func (d *definition) newServing() (*serving, error) {
	known := &oneDefinition{d: d}
	full, err := d.h.full(d.state.Load())
	if err != nil {
		return nil, err
	}
	known.spec = full.Spec
	models, err := d.h.static.get()
	if err != nil {
		return nil, err
	}
	s := &serving{versions: map[string]versionStorage{}}
	cfg := d.h.cfg
	handler, err := upstream.NewCustomResourceDefinitionHandler(
		nil, nil, // discovery is served elsewhere
		known, cfg.NotFound, storages{d: d, s: s}, cfg.Admission,
		nil, // establishing: its only use is in handlers of events, of which known has none
		cfg.Services, cfg.converters(), 1, cfg.Authorizer, cfg.RequestTimeout, cfg.MinRequestTimeout, models, cfg.MaxRequestBodyBytes)
	if err != nil {
		return nil, err
	}
	s.handler = handler
	s.deleter = func() (finalizer.ListerCollectionDeleter, error) {
		crd, err := known.Get(d.name)
		if err != nil {
			return nil, err
		}
		return handler.GetCustomResourceListerCollectionDeleter(crd)
	}
	// The handler makes the storages of all versions when the first of them is asked for.
	if _, err := s.deleter(); err != nil {
		return nil, err
	}
	parts, err := partsOf(handler)
	if err != nil {
		return nil, err
	}
	fields, err := d.h.fields()
	if err != nil {
		return nil, err
	}
	s.writes = &written{d: d, fields: fields, parts: parts, made: map[way]*writer{}}
	// It has made what it needs of the schemas. Of these nobody takes notice any more.
	for i := range known.spec.Versions {
		known.spec.Versions[i].Schema = nil
	}
	return s, nil
}

// oneDefinition is the informer and lister that the handler sees: the one definition, with its present conditions.
type oneDefinition struct {
	d    *definition
	spec apiextensions.CustomResourceDefinitionSpec
	last atomic.Pointer[shown]
}

type shown struct {
	of  *state
	crd *apiextensions.CustomResourceDefinition
}

// Informer implements informers.CustomResourceDefinitionInformer.
func (o *oneDefinition) Informer() toolscache.SharedIndexInformer { return noEvents{} }

// Lister implements informers.CustomResourceDefinitionInformer.
func (o *oneDefinition) Lister() listers.CustomResourceDefinitionLister { return o }

// List implements listers.CustomResourceDefinitionLister.
func (o *oneDefinition) List(labels.Selector) ([]*apiextensions.CustomResourceDefinition, error) {
	crd, err := o.Get(o.d.name)
	return []*apiextensions.CustomResourceDefinition{crd}, err
}

// Get implements listers.CustomResourceDefinitionLister.
func (o *oneDefinition) Get(name string) (*apiextensions.CustomResourceDefinition, error) {
	if name != o.d.name {
		return nil, apierrors.NewNotFound(definitionsResource, name)
	}
	state := o.d.state.Load()
	if s := o.last.Load(); s != nil && s.of == state {
		return s.crd, nil
	}
	crd := *state.crd
	crd.Spec = o.spec
	crd.Status.Conditions = slices.Clone(crd.Status.Conditions)
	for i := range crd.Status.Conditions {
		if c := &crd.Status.Conditions[i]; c.Type == apiextensions.Established {
			// Upstream holds up creations for two seconds after this, until other replicas have heard of the definition. Here
			// a replica that has not asks the database.
			c.LastTransitionTime = crd.CreationTimestamp
			c.LastTransitionTime.Time = c.LastTransitionTime.AddDate(-1, 0, 0)
		}
	}
	o.last.Store(&shown{of: state, crd: &crd})
	return &crd, nil
}

// noEvents is an informer that never tells of anything: another definition gets another handler.
type noEvents struct{ toolscache.SharedIndexInformer }

// AddEventHandler implements cache.SharedInformer.
func (noEvents) AddEventHandler(toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	return nil, nil
}

// storages hands our storage to upstream's registries, and notes what they would encode with.
type storages struct {
	d *definition
	s *serving
}

// deleteWorkers is how many objects of a collection are deleted at a time: concurrent deletes share commits.
const deleteWorkers = 16

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g storages) GetRESTOptions(gr schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	config := storagebackend.Config{Codec: unstructured.UnstructuredJSONScheme}
	return generic.RESTOptions{
		StorageConfig:           config.ForResource(gr),
		Decorator:               g.decorate,
		ResourcePrefix:          "/" + gr.Group + "/" + gr.Resource,
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: deleteWorkers,
	}, nil
}

func (g storages) decorate(config *storagebackend.ConfigForResource, prefix string, _ func(runtime.Object) (string, error),
	newFunc, _ func() runtime.Object, attrs apistorage.AttrFunc, _ apistorage.IndexerFuncs, _ *toolscache.Indexers,
) (apistorage.Interface, factory.DestroyFunc, error) {
	kind := newFunc().GetObjectKind().GroupVersionKind()
	codec := g.d.codecs[kind.Version]
	if codec == nil {
		return nil, nil, fmt.Errorf("%s has no version %s", g.d.name, kind.Version)
	}
	g.s.versions[kind.Version] = versionStorage{
		codec: config.Codec, kind: kind, attrs: attrs, newFunc: newFunc,
		head: fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,`, kind.GroupVersion().String(), kind.Kind),
	}
	return endingStore{adapter.New(g.d.h.cfg.Backend, codec, prefix), g.d.ended}, func() {}, nil
}

// endingStore is a store whose watches end with the definition.
type endingStore struct {
	*adapter.Store
	ended context.Context //nolint:containedctx // of the store, not of a call
}

// Watch implements storage.Interface.
func (s endingStore) Watch(ctx context.Context, key string, opts apistorage.ListOptions) (watch.Interface, error) {
	return s.Store.Watch(endWith(ctx, s.ended), key, opts)
}

// endWith is a context that is done when either of two is.
func endWith(ctx, other context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(other, cancel)
	context.AfterFunc(ctx, func() {
		stop()
		cancel()
	})
	return ctx
}
