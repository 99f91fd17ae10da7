package write

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// unnamed is a registry whose objects have their names in them.
type unnamed struct{ rest.Creater }

// Create implements rest.NamedCreater.
func (u unnamed) Create(ctx context.Context, _ string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	return u.Creater.Create(ctx, obj, validate, options)
}

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

func (h *Handlers) create(r rest.NamedCreater, whole http.HandlerFunc, named bool) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if !h.takes(req) {
			whole(w, req)
			return
		}
		req, s := h.start(req, "Create")
		defer s.end()
		namespace, name, err := h.scope.Namer.Name(req)
		if err != nil && !named {
			namespace, err = h.scope.Namer.Namespace(req)
		}
		if err != nil {
			h.fail(w, req, err)
			return
		}
		ctx, cancel := context.WithTimeout(req.Context(), longest)
		defer cancel()
		t := &target{h: h, namespace: namespace, name: name}
		obj, options, err := h.created(ctx, req, r, t, s)
		if err != nil {
			h.fail(w, req, err)
			return
		}
		ctx, answer := h.answered(request.WithNamespace(ctx, t.namespace), req)
		s.event("About to store object in database")
		oneOwnerEach(req.Context(), obj, beforeAdmission)
		result, err := h.store(ctx, req, r, t, obj, options)
		if result, err = finish(ctx, result, err); err != nil {
			s.sized("Write to database call failed", t.size, err)
			h.fail(w, req, err)
			return
		}
		s.sized("Write to database call succeeded", t.size, nil)
		if status, ok := result.(*metav1.Status); ok && status.Code == 0 {
			status.Code = http.StatusCreated
		}
		h.answer(w, req, s, http.StatusCreated, result, answer)
	}
}

// created returns the object that a request brings, and completes what is known of its place.
func (h *Handlers) created(ctx context.Context, req *http.Request, r rest.NamedCreater, t *target, s *span) (runtime.Object, *metav1.CreateOptions, error) {
	in, err := h.codecs.input(req)
	if err != nil {
		return nil, nil, err
	}
	body, err := h.body(ctx, req, metrics.Create, s)
	if err != nil {
		return nil, nil, err
	}
	t.size = len(body)
	options := &metav1.CreateOptions{}
	if err := h.options(req, createOptions, options, func() field.ErrorList { return validation.ValidateCreateOptions(options) }); err != nil {
		return nil, nil, err
	}
	options.TypeMeta = typeOf(createOptions)
	obj, version, err := h.decode(req, in, body, r.New(), options.FieldValidation, s)
	if err != nil {
		return nil, nil, err
	}
	if t.name == "" {
		_, t.name, _ = h.scope.Namer.ObjectName(obj)
	}
	if t.namespace == "" && h.scope.Resource == namespaces {
		t.namespace = t.name
	}
	audit.LogRequestObject(req.Context(), obj, version, h.scope.Resource, h.scope.Subresource, h.scope.Serializer)
	t.user, _ = request.UserFrom(ctx)
	t.dryRun = dryrun.IsDryRun(options.DryRun)
	if accessor, err := meta.Accessor(obj); err == nil {
		if !h.keepsSystemFields(r) {
			rest.WipeObjectMetaSystemFields(accessor)
		}
		if err := t.checkNamespace(accessor); err != nil {
			return nil, nil, err
		}
	}
	return obj, options, nil
}

// keepsSystemFields tells whether a subresource takes UIDs and the like from what is sent.
func (h *Handlers) keepsSystemFields(r rest.NamedCreater) bool {
	p, ok := r.(rest.SubresourceObjectMetaPreserver)
	return ok && h.scope.Subresource != "" && p.PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate()
}

// store manages the fields of a new object, has it admitted, and creates it.
func (h *Handlers) store(ctx context.Context, req *http.Request, r rest.NamedCreater, t *target, obj runtime.Object, options *metav1.CreateOptions) (runtime.Object, error) {
	live, err := h.scope.Creater.New(h.scope.Kind)
	if err != nil {
		return nil, fmt.Errorf("failed to create new object (Create for %v): %w", h.scope.Kind, err)
	}
	obj = h.cfg.Fields.UpdateNoErrors(live, obj, manager(options.FieldManager, req))
	if err := t.mutate(ctx, obj, nil, admission.Create, options); err != nil {
		return nil, err
	}
	oneOwnerEach(req.Context(), obj, afterAdmission)
	return r.Create(ctx, t.name, obj, t.validateCreate(func() runtime.Object { return options }), options)
}
