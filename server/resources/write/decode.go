package write

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/warning"
	kjson "sigs.k8s.io/json"
)

// decode decodes the object in a body, and warns of fields that are unknown or come twice, or refuses them.
func (h *Handlers) decode(req *http.Request, in *decoders, body []byte, into runtime.Object, asked string, s *span) (runtime.Object, schema.GroupVersion, error) {
	validate := directive(asked)
	s.event("About to convert to expected version")
	if isStrict(validate) && in.media == runtime.ContentTypeJSON {
		if obj := h.plain(body, into); obj != nil {
			s.event("Conversion done")
			return obj, h.scope.Kind.GroupVersion(), nil
		}
	}
	obj, kind, err := in.decode(body, h.scope.Kind, into, isStrict(validate))
	if err != nil {
		strict, ok := runtime.AsStrictDecodingError(err)
		if !ok || obj == nil || validate != metav1.FieldValidationWarn {
			return nil, schema.GroupVersion{}, h.undecodable(err, into, kind, body)
		}
		warnAll(req.Context(), strict.Errors())
	}
	version := kind.GroupVersion()
	if !h.scope.AcceptsGroupVersion(version) {
		return nil, schema.GroupVersion{}, apierrors.NewBadRequest(fmt.Sprintf(
			"the API version in the data (%s) does not match the expected API version (%s)", version, h.scope.Kind.GroupVersion()))
	}
	s.event("Conversion done")
	return obj, version, nil
}

// plain returns the object of like's type that JSON of the handlers' kind describes, if there is nothing to say about it: no field
// unknown or twice, no other kind or version. Upstream's decoder looks for the last two before it decodes. Else it returns nil.
func (h *Handlers) plain(body []byte, like runtime.Object) runtime.Object {
	scheme, want := h.cfg.Scheme, h.scope.Kind
	if scheme == nil {
		return nil
	}
	obj, err := scheme.New(want)
	if err != nil || reflect.TypeOf(obj) == reflect.TypeOf(like) {
		return nil
	}
	if _, ok := obj.(runtime.NestedObjectDecoder); ok {
		return nil
	}
	// Only exact names count here, and others are unknown: where upstream takes "Kind" for the kind, this returns nil.
	if strict, err := kjson.UnmarshalStrict(body, obj); err != nil || len(strict) > 0 {
		return nil
	}
	// Not by way of a GroupVersionKind, in which a version that makes no sense is none.
	said, ok := obj.GetObjectKind().(*metav1.TypeMeta)
	if !ok || *said != (metav1.TypeMeta{}) && said.GroupVersionKind() != want {
		return nil
	}
	scheme.Default(obj)
	out, err := scheme.UnsafeConvertToVersion(obj, h.scope.HubGroupVersion)
	if err != nil || reflect.TypeOf(out) != reflect.TypeOf(like) {
		return nil
	}
	return out
}

// undecodable says what could not be decoded.
func (h *Handlers) undecodable(err error, into runtime.Object, kind *schema.GroupVersionKind, body []byte) error {
	kinds, _, unknown := h.scope.Typer.ObjectKinds(into)
	switch {
	case unknown != nil:
		return apierrors.NewBadRequest(unknown.Error())
	case kind != nil && kind.Kind != "":
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", kind.Kind, kind.Version, kinds[0].Kind, err))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", kinds[0].Kind, err, summary(body)))
}

// summary shows the beginning of a body.
func summary(body []byte) string {
	const most = 30
	if len(body) == 0 {
		return "<empty>"
	}
	show := func(part []byte) string { return string(part) }
	if body[0] != '{' {
		show = hex.EncodeToString
	}
	if len(body) > most {
		return show(body[:most]) + " ..."
	}
	return show(body)
}

// warnAll warns of each error. Those of YAML come as one, with a line for each.
func warnAll(ctx context.Context, errs []error) {
	for _, err := range errs {
		text := err.Error()
		lines, ok := strings.CutPrefix(text, "yaml: unmarshal errors:\n")
		if !ok {
			lines, ok = strings.CutPrefix(text, "error converting YAML to JSON: yaml: unmarshal errors:\n")
		}
		if !ok {
			warning.AddWarning(ctx, "", text)
			continue
		}
		for line := range strings.SplitSeq(lines, "\n") {
			warning.AddWarning(ctx, "", strings.TrimSpace(line))
		}
	}
}
