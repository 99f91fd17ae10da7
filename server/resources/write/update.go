package write

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// Update answers PUT. Whole is upstream's handler for the same.
func (h *Handlers) Update(r rest.Updater, whole http.HandlerFunc) http.HandlerFunc {
	return h.one("Update", whole, func(ctx context.Context, w http.ResponseWriter, req *http.Request, t *target, s *span) {
		ctx, answer := h.answered(ctx, req)
		obj, options, err := h.replacement(ctx, req, r, t, s)
		if err != nil {
			h.fail(w, req, err)
			return
		}
		s.event("About to store object in database")
		oneOwnerEach(req.Context(), obj, beforeAdmission)
		result, created, err := h.replace(ctx, req, r, t, obj, options)
		if result, err = finish(ctx, result, err); err != nil {
			s.sized("Write to database call failed", t.size, err)
			h.fail(w, req, err)
			return
		}
		s.sized("Write to database call succeeded", t.size, nil)
		h.answer(w, req, s, codeOf(created), result, answer)
	})
}

func codeOf(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

// replacement returns the object that a request brings.
func (h *Handlers) replacement(ctx context.Context, req *http.Request, r rest.Updater, t *target, s *span) (runtime.Object, *metav1.UpdateOptions, error) {
	body, err := h.body(ctx, req, metrics.Update, s)
	if err != nil {
		return nil, nil, err
	}
	t.size = len(body)
	options := &metav1.UpdateOptions{}
	if err := h.options(req, updateOptions, options, func() field.ErrorList { return validation.ValidateUpdateOptions(options) }); err != nil {
		return nil, nil, err
	}
	options.TypeMeta = typeOf(updateOptions)
	in, err := h.codecs.input(req)
	if err != nil {
		return nil, nil, err
	}
	obj, version, err := h.decode(req, in, body, r.New(), options.FieldValidation, s)
	if err != nil {
		return nil, nil, err
	}
	audit.LogRequestObject(req.Context(), obj, version, h.scope.Resource, h.scope.Subresource, h.scope.Serializer)
	t.user, _ = request.UserFrom(ctx)
	t.dryRun = dryrun.IsDryRun(options.DryRun)
	if accessor, err := meta.Accessor(obj); err == nil {
		if err := t.checkNamespace(accessor); err != nil {
			return nil, nil, err
		}
	}
	return obj, options, t.checkName(obj)
}

// replace puts an object in the place of what is stored under its name.
func (h *Handlers) replace(ctx context.Context, req *http.Request, r rest.Updater, t *target, obj runtime.Object, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	var create *metav1.CreateOptions
	creating := func() runtime.Object {
		if create == nil {
			create = &metav1.CreateOptions{
				TypeMeta: typeOf(createOptions), DryRun: options.DryRun, FieldManager: options.FieldManager, FieldValidation: options.FieldValidation,
			}
		}
		return create
	}
	managed := func(_ context.Context, obj, live runtime.Object) (runtime.Object, error) {
		return h.cfg.Fields.UpdateNoErrors(live, obj, manager(options.FieldManager, req)), nil
	}
	admitted := func(ctx context.Context, obj, old runtime.Object) (runtime.Object, error) {
		stored, err := hasUID(old)
		if err != nil {
			return nil, fmt.Errorf("unexpected error when extracting UID from oldObj: %v", err.Error())
		}
		if !stored {
			return obj, t.mutate(ctx, obj, nil, admission.Create, creating())
		}
		return obj, t.mutate(ctx, obj, old, admission.Update, options)
	}
	owned := func(_ context.Context, obj, _ runtime.Object) (runtime.Object, error) {
		oneOwnerEach(req.Context(), obj, afterAdmission)
		return obj, nil
	}
	return r.Update(ctx, t.name, rest.DefaultUpdatedObjectInfo(obj, managed, admitted, owned),
		t.mayCreate(req.URL.Path, t.validateCreate(creating)), t.validateUpdate(options), false, options)
}
