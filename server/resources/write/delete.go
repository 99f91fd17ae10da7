package write

import (
	"context"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metainternalscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metainternalvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers/metrics"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/apihelpers"
	"k8s.io/apiserver/pkg/util/dryrun"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

const deleteOptions = "DeleteOptions"

// Delete answers DELETE of one object. Whole is upstream's handler for the same.
func (h *Handlers) Delete(r rest.GracefulDeleter, whole http.HandlerFunc) http.HandlerFunc {
	if deletesUnreadable() {
		return whole
	}
	return h.one("Delete", whole, func(ctx context.Context, w http.ResponseWriter, req *http.Request, t *target, s *span) {
		options, err := t.deleteOptions(ctx, req, metrics.Delete, s)
		if err != nil {
			h.fail(w, req, err)
			return
		}
		s.event("About to delete object from database")
		result, gone, err := r.Delete(ctx, t.name, t.validateDelete(options), options)
		if result, err = finish(ctx, result, err); err != nil {
			h.fail(w, req, err)
			return
		}
		s.event("Object deleted from database")
		code := http.StatusOK
		if !gone && options.OrphanDependents != nil && !*options.OrphanDependents { //nolint:staticcheck // old clients ask so
			code = http.StatusAccepted
		}
		if result == nil {
			result = &metav1.Status{
				Status: metav1.StatusSuccess, Code: int32(code),
				Details: &metav1.StatusDetails{Name: t.name, Kind: h.scope.Kind.Kind},
			}
		}
		h.answerDeleted(w, req, s, code, result, nil)
	})
}

// DeleteCollection answers DELETE of a collection. Whole is upstream's handler for the same.
func (h *Handlers) DeleteCollection(r rest.CollectionDeleter, whole http.HandlerFunc) http.HandlerFunc {
	if deletesUnreadable() {
		return whole
	}
	return func(w http.ResponseWriter, req *http.Request) {
		if !h.takes(req) {
			whole(w, req)
			return
		}
		req, s := h.start(req, "Delete")
		defer s.end()
		namespace, err := h.scope.Namer.Namespace(req)
		if err != nil {
			h.fail(w, req, err)
			return
		}
		ctx := request.WithNamespace(req.Context(), namespace) // it may take as long as it takes
		selected, err := h.selected(req)
		if err != nil {
			h.fail(w, req, err)
			return
		}
		t := &target{h: h, namespace: namespace}
		options, err := t.deleteOptions(ctx, req, metrics.DeleteCollection, s)
		if err != nil {
			h.fail(w, req, err)
			return
		}
		ctx, listed := h.listed(ctx, req)
		result, err := r.DeleteCollection(ctx, t.validateDelete(options), options, selected)
		if result, err = finish(ctx, result, err); err != nil {
			h.fail(w, req, err)
			return
		}
		if result == nil {
			result = &metav1.Status{
				Status: metav1.StatusSuccess, Code: http.StatusOK, Details: &metav1.StatusDetails{Kind: h.scope.Kind.Kind},
			}
		}
		h.answerDeleted(w, req, s, http.StatusOK, result, listed)
	}
}

// deletesUnreadable tells whether deletions may be asked for that need no readable object. Those are upstream's.
func deletesUnreadable() bool {
	return utilfeature.DefaultFeatureGate.Enabled(features.AllowUnsafeMalformedObjectDeletion)
}

// selected is what of a collection is to be deleted.
func (h *Handlers) selected(req *http.Request) (*internalversion.ListOptions, error) {
	out := &internalversion.ListOptions{}
	if err := metainternalscheme.ParameterCodec.DecodeParameters(req.URL.Query(), h.scope.MetaGroupVersion, out); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	watchList := utilfeature.DefaultFeatureGate.Enabled(features.WatchList)
	internalversion.SetListOptionsDefaults(out, watchList)
	if errs := metainternalvalidation.ValidateListOptions(out, watchList); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
	}
	if out.FieldSelector == nil {
		return out, nil
	}
	var err error
	out.FieldSelector, err = out.FieldSelector.Transform(func(label, value string) (string, string, error) {
		return h.scope.Convertor.ConvertFieldLabel(h.scope.Kind, label, value)
	})
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return out, nil
}

// deleteOptions are those of the body, or without one those of the query. It also fills in what they tell of the target.
func (t *target) deleteOptions(ctx context.Context, req *http.Request, verb metrics.RequestBodyVerb, s *span) (*metav1.DeleteOptions, error) {
	scope := t.h.scope
	body, err := t.h.body(ctx, req, verb, s)
	if err != nil {
		return nil, err
	}
	options := &metav1.DeleteOptions{}
	switch {
	case len(body) > 0:
		codecs := apihelpers.GetMetaInternalVersionCodecs()
		in, err := negotiation.NegotiateInputSerializer(req, false, codecs)
		if err != nil {
			return nil, err
		}
		kind := scope.MetaGroupVersion.WithKind(deleteOptions) // and those of the resource's own group, which old clients send
		obj, sent, err := codecs.DecoderToVersion(in.Serializer, kind.GroupVersion()).Decode(body, &kind, options)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if obj != options {
			return nil, apierrors.NewBadRequest("decoded object cannot be converted to DeleteOptions")
		}
		s.event("Decoded delete options")
		audit.LogRequestObject(req.Context(), obj, sent.GroupVersion(), scope.Resource, scope.Subresource, codecs)
		s.event("Recorded the audit event")
	case req.URL.RawQuery != "":
		if err := metainternalscheme.ParameterCodec.DecodeParameters(req.URL.Query(), scope.MetaGroupVersion, options); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	options.IgnoreStoreReadErrorWithClusterBreakingPotential = nil
	if errs := validation.ValidateDeleteOptions(options); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: deleteOptions}, "", errs)
	}
	options.TypeMeta = metav1.TypeMeta{Kind: deleteOptions, APIVersion: metav1.SchemeGroupVersion.String()}
	t.user, _ = request.UserFrom(ctx)
	t.dryRun = dryrun.IsDryRun(options.DryRun)
	return options, nil
}
