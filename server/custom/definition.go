package custom

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/schema/openapi"
	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/storage"
)

// endDelay is how long watches go on when their definition has changed or is gone, as in kube-apiserver: so they still
// tell of the last deletions.
const endDelay = time.Second

// definition is a CustomResourceDefinition for as long as its objects are served alike: another spec or other accepted
// names make another definition, with codecs of its own, so that nothing of the old schema is seen under the new one.
type definition struct {
	h        *Handler
	name     string
	identity [sha256.Size]byte // tells it from another definition
	gr       schema.GroupResource
	stored   string // the storage version
	state    atomic.Pointer[state]
	codecs   map[string]*object.Codec // by version
	bytes    func() *read.Resource    // the stored version
	v2       *openapi.Part

	ended context.Context // watches end with it
	stop  context.CancelFunc

	mu     sync.Mutex
	served *serving
	used   time.Time // when served was needed last
}

func (h *Handler) newDefinition(s *state) *definition {
	d := &definition{
		h: h, name: s.crd.Name, codecs: map[string]*object.Codec{},
		gr: schema.GroupResource{Group: s.crd.Spec.Group, Resource: s.crd.Status.AcceptedNames.Plural},
	}
	d.identity = sha256.Sum256(fmt.Appendf(nil, "%s %x %+v", s.crd.UID, s.spec, s.crd.Status.AcceptedNames))
	d.state.Store(s)
	d.ended, d.stop = context.WithCancel(context.Background())
	for _, v := range s.crd.Spec.Versions {
		if v.Storage {
			d.stored = v.Name
		}
	}
	for _, v := range s.crd.Spec.Versions {
		if v.Served || v.Storage {
			d.codecs[v.Name] = d.newCodec(v.Name)
		}
	}
	d.bytes = sync.OnceValue(d.newResource)
	d.v2 = openapi.NewPart(d.buildV2)
	return d
}

func (d *definition) revision() storage.Revision { return d.state.Load().revision }

// end lets go of watches, a little later.
func (d *definition) end() {
	d.drop()
	time.AfterFunc(endDelay, d.stop)
}

// serves tells whether requests for a version are answered at all. What that takes is upstream's.
func (d *definition) serves(version string) bool {
	crd := d.state.Load().crd
	return apihelpers.HasServedCRDVersion(crd, version) &&
		(apihelpers.IsCRDConditionTrue(crd, apiextensions.NamesAccepted) || apihelpers.IsCRDConditionTrue(crd, apiextensions.Established))
}

func (d *definition) kind(version string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: d.gr.Group, Version: version, Kind: d.state.Load().crd.Status.AcceptedNames.Kind}
}

// storedAs is the resource that objects are kept under: their own name, unless a built-in resource is kept under that.
// Group and plural cannot be taken for another's: a plural has no dot, and a group has one.
func (d *definition) storedAs() schema.GroupResource {
	gr := d.gr
	if d.h.cfg.BuiltIn != nil && d.h.cfg.BuiltIn(gr) {
		gr.Group += "/custom"
	}
	return gr
}

func (d *definition) newCodec(version string) *object.Codec {
	gr := d.storedAs()
	lazy := lazyCodec{d: d, version: version}
	cfg := object.Config{
		Resource: gr,
		Codec:    lazy,
		New: func() runtime.Object {
			u := &unstructured.Unstructured{}
			u.SetGroupVersionKind(d.kind(version))
			return u
		},
		NewList: func() runtime.Object {
			u := &unstructured.UnstructuredList{}
			u.SetGroupVersionKind(schema.GroupVersionKind{Group: d.gr.Group, Version: version, Kind: d.state.Load().crd.Status.AcceptedNames.ListKind})
			return u
		},
		GetAttrs: lazy.attrs,
		Hot:      d.h.cfg.Hot,
	}
	if d.h.cfg.Transform != nil {
		cfg.Transformer = d.h.cfg.Transform(d.gr)
	}
	if version == d.stored {
		cfg.Canonical, cfg.Default, cfg.Decodes = lazy.canonical, lazy.normal, true
	}
	return object.NewCodec(cfg)
}

// serving returns what it takes to do more than copy bytes, making it when it was not needed lately.
func (d *definition) serving() (*serving, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used = time.Now()
	if d.served != nil {
		return d.served, nil
	}
	d.h.wantRoom()
	s, err := d.newServing()
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", d.name, err)
	}
	d.served = s
	return s, nil
}

// drop forgets what serving made. Who is using it goes on doing so.
func (d *definition) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.served = nil
}

// dropUnused is drop for what was not needed since a time.
func (d *definition) dropUnused(since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.used.Before(since) {
		d.served = nil
	}
}

// weight is about what serving takes in memory, and when it was needed last; 0: it is not there.
func (d *definition) weight() (bytes int, used time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.served == nil {
		return 0, d.used
	}
	return schemaWeight * d.state.Load().entry.Size(), d.used
}
