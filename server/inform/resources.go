package inform

import (
	"fmt"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/object"
)

// Resources are what informers can be had of without requests: the built-in resources that client-go has informers of, in
// the version they are stored in.
//
// Registries and plug-ins ask for informers while they are made, before it is known what all is stored. So a type is
// taken for one of these by its version, and Complete tells whether that was right. The zero value is ready for use.
type Resources struct {
	mu         sync.Mutex
	promised   []*source
	byType     map[reflect.Type]*adapter.Store // nil until Complete
	byResource map[schema.GroupVersionResource]reflect.Type
}

// Complete says what is stored. Informers must not be started before. It fails when one was made of a type that is stored
// in another version, or not at all.
func (r *Resources) Complete(backend adapter.Backend, codecs []*object.Codec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byType, r.byResource = map[reflect.Type]*adapter.Store{}, map[schema.GroupVersionResource]reflect.Type{}
	for _, codec := range codecs {
		cfg := codec.Config()
		if cfg.External == nil {
			continue
		}
		example, err := cfg.External(cfg.New())
		if err != nil {
			return fmt.Errorf("informers of %s: %w", cfg.Resource, err)
		}
		gvk := example.GetObjectKind().GroupVersionKind()
		if !scheme.Scheme.Recognizes(gvk) {
			continue
		}
		t := reflect.TypeOf(example)
		r.byType[t] = adapter.New(backend, codec, "/"+cfg.Resource.String())
		r.byResource[schema.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: cfg.Resource.Resource}] = t
	}
	for _, s := range r.promised {
		if s.store = r.byType[s.of]; s.store == nil {
			return fmt.Errorf("informers of %s: it is not stored in this version", s.of)
		}
	}
	return nil
}

// source returns what feeds an informer of a type; nil when requests have to.
func (r *Resources) source(t reflect.Type) *source {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byType == nil {
		if !stored(t) {
			return nil
		}
		s := &source{of: t}
		r.promised = append(r.promised, s)
		return s
	}
	if store := r.byType[t]; store != nil {
		return &source{of: t, store: store}
	}
	return nil
}

func (r *Resources) typeOf(gvr schema.GroupVersionResource) reflect.Type {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byResource[gvr]
}

// stored tells whether a type's version is the one that its group is stored in by default.
func stored(t reflect.Type) bool {
	example, ok := reflect.New(t.Elem()).Interface().(runtime.Object)
	if !ok {
		return false
	}
	kinds, _, err := scheme.Scheme.ObjectKinds(example)
	return err == nil && kinds[0].Version == "v1" && kinds[0].Group != "autoscaling" && kinds[0].Group != "events.k8s.io"
}
