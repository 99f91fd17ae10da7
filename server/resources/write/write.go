// Package write answers requests that create, update and patch objects, over the registries and admission that upstream's
// handlers drive, and with upstream's answers: codes, words, warnings, audit records, and their order. The tests send the
// same requests to upstream's handlers.
//
// What upstream does for each request and ours does not: a goroutine that could outlive the request (see finish), spans that
// nobody records, codecs whose parts never change, a second look at managedFields that admission left alone, and the whole
// object where a patch names a part of it.
//
// What is asked for seldom stays upstream's: answers as tables or as metadata alone, and media types that are not
// known. Such requests are handed on before anything of them was read.
package write

import (
	"context"
	"net/http"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/rowlock-io/rowlock/server/resources/narrow"
)

// FieldManager keeps metadata.managedFields and applies configurations.
type FieldManager interface {
	// UpdateNoErrors returns the object with the fields that the manager changed from live to it.
	UpdateNoErrors(live, obj runtime.Object, manager string) runtime.Object
	// Apply returns live with a configuration applied.
	Apply(live, configuration runtime.Object, manager string, force bool) (runtime.Object, error)
}

// Config is what is written to.
type Config struct {
	Scope  *handlers.RequestScope
	Fields FieldManager
	Scheme *runtime.Scheme // nil: objects of the kind are maps
	// Admission is told of in the audit log, and leaves managedFields valid; nil: everything is admitted.
	Admission admission.Interface

	// Stored encodes results as they were stored; nil: results are encoded.
	Stored *Stored
	// Traced tells that some requests have spans.
	Traced bool
}

// Handlers makes the handlers of one resource or subresource.
type Handlers struct {
	cfg        Config
	scope      *handlers.RequestScope
	mutating   admission.MutationInterface
	validating admission.ValidationInterface
	codecs     codecs
	group      schema.GroupResource // as metrics name it

	shape func() *narrow.Shape
}

// New returns handlers that may be used for any number of requests.
func New(cfg Config) *Handlers {
	h := &Handlers{cfg: cfg, scope: cfg.Scope}
	h.mutating, _ = cfg.Admission.(admission.MutationInterface)
	h.validating, _ = cfg.Admission.(admission.ValidationInterface)
	h.codecs.init(cfg.Scope)
	h.group = cfg.Scope.Resource.GroupResource()
	h.shape = sync.OnceValue(func() *narrow.Shape {
		if cfg.Scheme == nil {
			return nil
		}
		return narrow.ShapeOf(cfg.Scheme, cfg.Scope.Kind)
	})
	return h
}

// PatchTypes are the patches that are accepted.
var PatchTypes = []string{
	string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType),
}

// Create answers POST. Whole is upstream's handler for the same.
func (h *Handlers) Create(r rest.Creater, whole http.HandlerFunc) http.HandlerFunc {
	return h.create(unnamed{r}, whole, false)
}

// CreateNamed answers POST to a subresource.
func (h *Handlers) CreateNamed(r rest.NamedCreater, whole http.HandlerFunc) http.HandlerFunc {
	return h.create(r, whole, true)
}

// one is the handler of requests about one object, which has this long and what is known of the object. Whole gets the requests
// that are upstream's.
func (h *Handlers) one(verb string, whole http.HandlerFunc, handle func(context.Context, http.ResponseWriter, *http.Request, *target, *span)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if !h.takes(req) {
			whole(w, req)
			return
		}
		req, s := h.start(req, verb)
		defer s.end()
		namespace, name, err := h.scope.Namer.Name(req)
		if err != nil {
			h.fail(w, req, err)
			return
		}
		ctx, cancel := context.WithTimeout(req.Context(), longest)
		defer cancel()
		handle(request.WithNamespace(ctx, namespace), w, req, &target{h: h, namespace: namespace, name: name}, s)
	}
}

func (h *Handlers) fail(w http.ResponseWriter, req *http.Request, err error) {
	responsewriters.ErrorNegotiated(err, h.scope.Serializer, h.scope.Kind.GroupVersion(), w, req)
}
