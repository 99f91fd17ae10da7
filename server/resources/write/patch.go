package write

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// patch is one request's patch.
type patch struct {
	*target
	req     *http.Request
	kind    types.PatchType
	data    []byte
	options metav1.PatchOptions
	r       rest.Patcher
	span    *span
}

// Patch answers PATCH. Whole is upstream's handler for the same.
func (h *Handlers) Patch(r rest.Patcher, whole http.HandlerFunc) http.HandlerFunc {
	handle := h.one("Patch", whole, func(ctx context.Context, w http.ResponseWriter, req *http.Request, t *target, s *span) {
		ctx, answer := h.answered(ctx, req)
		p := &patch{target: t, req: req, kind: patchType(req), r: r, span: s}
		if err := p.read(ctx); err != nil {
			h.fail(w, req, err)
			return
		}
		result, created, err := p.update(ctx)
		if result, err = finish(ctx, result, err); err != nil {
			h.fail(w, req, err)
			return
		}
		s.event("Object stored in database")
		h.answer(w, req, s, codeOf(created), result, answer)
	})
	return func(w http.ResponseWriter, req *http.Request) {
		if !slices.Contains(PatchTypes, string(patchType(req))) {
			whole(w, req)
			return
		}
		handle(w, req)
	}
}

func patchType(req *http.Request) types.PatchType {
	mediaType, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	return types.PatchType(mediaType)
}

// read reads the patch and its options.
func (p *patch) read(ctx context.Context) error {
	var err error
	if p.data, err = p.h.body(ctx, p.req, metrics.Patch, p.span); err != nil {
		return err
	}
	if err := p.h.options(p.req, patchOptions, &p.options, func() field.ErrorList { return validation.ValidatePatchOptions(&p.options, p.kind) }); err != nil {
		return err
	}
	p.options.TypeMeta = typeOf(patchOptions)
	audit.LogRequestPatch(p.req.Context(), p.data)
	p.span.event("Recorded the audit event")
	p.user, _ = request.UserFrom(ctx)
	p.dryRun = dryrun.IsDryRun(p.options.DryRun)
	return nil
}

// update has the registry put the patched object in the place of the present one, as often as others are faster.
func (p *patch) update(ctx context.Context) (runtime.Object, bool, error) {
	apply, err := p.mechanism()
	if err != nil {
		return nil, false, err
	}
	updating := &metav1.UpdateOptions{
		TypeMeta: typeOf(updateOptions), DryRun: p.options.DryRun, FieldManager: p.options.FieldManager, FieldValidation: p.options.FieldValidation,
	}
	creating := func() runtime.Object {
		return &metav1.CreateOptions{
			TypeMeta: typeOf(createOptions), DryRun: p.options.DryRun, FieldManager: p.options.FieldManager, FieldValidation: p.options.FieldValidation,
		}
	}
	patched := func(ctx context.Context, _, current runtime.Object) (runtime.Object, error) {
		p.span.event("About to apply patch")
		return p.patched(ctx, current, apply)
	}
	admitted := func(ctx context.Context, obj, current runtime.Object) (runtime.Object, error) {
		p.span.event("About to check admission control")
		stored, err := hasUID(current)
		switch {
		case err != nil:
			return nil, err
		case !stored:
			return obj, p.mutate(ctx, obj, nil, admission.Create, creating())
		}
		return obj, p.mutate(ctx, obj, current, admission.Update, updating)
	}
	owned := func(_ context.Context, obj, _ runtime.Object) (runtime.Object, error) {
		oneOwnerEach(ctx, obj, afterAdmission)
		return obj, nil
	}
	return p.r.Update(ctx, p.name, rest.DefaultUpdatedObjectInfo(nil, patched, admitted, owned),
		p.mayCreate(p.req.URL.Path, p.validateCreate(creating)), p.validateUpdate(updating), p.kind == types.ApplyYAMLPatchType, updating)
}

// mechanism is how a patch changes an object: current is nil where there is none.
type mechanism func(ctx context.Context, current runtime.Object, stored bool) (runtime.Object, error)

func (p *patch) mechanism() (mechanism, error) {
	switch p.kind {
	case types.JSONPatchType, types.MergePatchType:
		return p.stored((&jsonPatch{patch: p}).apply), nil
	case types.StrategicMergePatchType:
		// Registries may have kinds that the version of the patch does not.
		like, err := p.h.scope.UnsafeConvertor.ConvertToVersion(p.r.New(), p.h.scope.Kind.GroupVersion())
		if err != nil {
			return nil, err
		}
		return p.stored((&strategicPatch{patch: p, like: like}).apply), nil
	}
	return p.applyConfiguration, nil // there is no other kind (PatchTypes)
}

// stored is a mechanism that changes what is there.
func (p *patch) stored(apply func(context.Context, runtime.Object) (runtime.Object, error)) mechanism {
	return func(ctx context.Context, current runtime.Object, stored bool) (runtime.Object, error) {
		if !stored {
			return nil, apierrors.NewNotFound(p.h.scope.Resource.GroupResource(), p.name)
		}
		return apply(ctx, current)
	}
}

// patched returns what the patch makes of the present object.
func (p *patch) patched(ctx context.Context, current runtime.Object, apply mechanism) (runtime.Object, error) {
	stored, err := hasUID(current)
	if err != nil {
		return nil, err
	}
	obj, err := apply(ctx, current, stored)
	if err != nil {
		return nil, err
	}
	named, err := hasUID(obj)
	if err != nil {
		return nil, err
	}
	accessor, err := meta.Accessor(obj)
	if named && !stored {
		if err != nil {
			return nil, err
		}
		return nil, apierrors.NewConflict(p.h.scope.Resource.GroupResource(), p.name,
			fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", accessor.GetUID()))
	}
	if err == nil {
		if err := p.checkNamespace(accessor); err != nil {
			return nil, err
		}
	}
	if err := p.checkName(obj); err != nil {
		return nil, err
	}
	return obj, nil
}

// managed returns a patched object with the fields that the patch changed owned by whoever sent it.
func (p *patch) managed(current, obj runtime.Object) runtime.Object {
	return p.h.cfg.Fields.UpdateNoErrors(current, obj, manager(p.options.FieldManager, p.req))
}
