package write

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/rowlock-io/rowlock/server/resources/narrow"
)

// maxOperations bounds a JSON patch.
const maxOperations = 10000

// jsonPatch is a JSON patch or a merge patch: both change JSON.
type jsonPatch struct{ *patch }

func (p *jsonPatch) apply(ctx context.Context, current runtime.Object) (runtime.Object, error) {
	obj, err := p.narrowed(ctx, current)
	if obj == nil && err == nil {
		obj, err = p.whole(ctx, current)
	}
	if err != nil {
		return nil, err
	}
	return p.managed(current, obj), nil
}

// whole applies the patch to the object's JSON.
func (p *jsonPatch) whole(ctx context.Context, current runtime.Object) (runtime.Object, error) {
	before, err := runtime.Encode(p.h.codecs.encoder, current)
	if err != nil {
		return nil, err
	}
	after, strict, err := p.change(before)
	if err != nil {
		return nil, err
	}
	validate := directive(p.options.FieldValidation)
	obj := p.r.New()
	if err := runtime.DecodeInto(p.h.codecs.of(runtime.ContentTypeJSON).decoder(isStrict(validate)), after, obj); err != nil {
		more, ok := runtime.AsStrictDecodingError(err)
		if !ok {
			return nil, invalidPatch(string(after), err)
		}
		strict = append(strict, more.Errors()...)
	}
	return obj, p.judge(ctx, strict, validate, func() string { return string(after) })
}

// narrowed applies a merge patch to what it names of the object. It returns nothing where the patch has to be applied to
// the whole.
func (p *jsonPatch) narrowed(ctx context.Context, current runtime.Object) (runtime.Object, error) {
	shape, validate := p.h.shape(), directive(p.options.FieldValidation)
	// Strict validation shows the whole object even when it is about the patch alone.
	if shape == nil || p.kind != types.MergePatchType || validate == metav1.FieldValidationStrict {
		return nil, nil //nolint:nilnil // nothing, as promised
	}
	fields, ok := narrow.Read(p.data)
	if !ok {
		return nil, nil //nolint:nilnil // as above
	}
	scope := p.h.scope
	versioned, err := scope.UnsafeConvertor.ConvertToVersion(current, scope.Kind.GroupVersion())
	if err != nil {
		return nil, err
	}
	before, err := p.h.codecs.encodeVersioned(shape.Part(versioned, fields))
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // the whole has the words
	}
	after, strict, err := p.change(before)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // as above
	}
	part, err := scope.Creater.New(scope.Kind)
	if err != nil {
		return nil, err
	}
	if err := p.h.codecs.decodeVersioned(after, part, isStrict(validate)); err != nil {
		more, ok := runtime.AsStrictDecodingError(err)
		if !ok {
			return nil, nil //nolint:nilnil // as above
		}
		strict = append(strict, more.Errors()...)
	}
	shape.Complete(part, versioned, fields)
	scope.Defaulter.Default(part)
	obj, err := scope.UnsafeConvertor.ConvertToVersion(part, scope.HubGroupVersion)
	if err != nil {
		return nil, err
	}
	return obj, p.judge(ctx, strict, validate, nil)
}

// judge warns of what strict decoding found, or refuses the patch for it.
func (p *patch) judge(ctx context.Context, strict []error, validate string, shown func() string) error {
	switch {
	case len(strict) == 0:
		return nil
	case validate == metav1.FieldValidationWarn:
		warnAll(ctx, strict)
		return nil
	}
	return invalidPatch(shown(), runtime.NewStrictDecodingError(strict))
}

func invalidPatch(shown string, err error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), shown, err.Error())})
}

// jsonPatchOp is one operation. Its name is part of what is said of patches that are no list of operations.
type jsonPatchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

// change applies the patch to JSON in its version, and tells what is unknown or comes twice in the patch itself.
func (p *jsonPatch) change(before []byte) (after []byte, strict []error, err error) {
	if p.kind == types.MergePatchType {
		if isStrict(directive(p.options.FieldValidation)) {
			if strict, err = kjson.UnmarshalStrict(p.data, &map[string]any{}); err != nil {
				return nil, nil, undecodablePatch(err)
			}
		}
		after, err = jsonpatch.MergePatch(before, p.data)
		if errors.Is(err, jsonpatch.ErrBadJSONPatch) {
			return nil, nil, apierrors.NewBadRequest(err.Error())
		}
		return after, strict, err
	}
	if isStrict(directive(p.options.FieldValidation)) {
		var operations []jsonPatchOp
		if strict, err = kjson.UnmarshalStrict(p.data, &operations); err != nil {
			return nil, nil, undecodablePatch(err)
		}
		for i, e := range strict {
			strict[i] = fmt.Errorf("json patch %w", e)
		}
	}
	operations, err := jsonpatch.DecodePatch(p.data)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	if len(operations) > maxOperations {
		return nil, nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(operations)))
	}
	after, err = operations.Apply(before)
	if err != nil {
		return nil, nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return after, strict, nil
}

func undecodablePatch(err error) error {
	words := strings.ReplaceAll(err.Error(), "write.jsonPatchOp", "handlers.jsonPatchOp") // where upstream has it
	return apierrors.NewBadRequest("error decoding patch: " + words)
}
