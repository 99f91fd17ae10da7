package write

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	kjson "sigs.k8s.io/json"

	"github.com/rowlock-io/rowlock/server/resources/narrow"
)

// strategicPatch is a strategic merge patch: it changes an object as a tree of maps, by what the Go types say of lists.
type strategicPatch struct {
	*patch
	like runtime.Object // an object of the type
}

func (p *strategicPatch) apply(ctx context.Context, current runtime.Object) (runtime.Object, error) {
	scope := p.h.scope
	versioned, err := scope.UnsafeConvertor.ConvertToVersion(current, scope.Kind.GroupVersion())
	if err != nil {
		return nil, err
	}
	to, err := scope.Creater.New(scope.Kind)
	if err != nil {
		return nil, err
	}
	changes, strict, err := p.read()
	if err != nil {
		return nil, err
	}
	from, shape := versioned, p.h.shape()
	fields, narrowed := narrow.Strategic(changes)
	if narrowed = narrowed && shape != nil; narrowed {
		from = shape.Part(versioned, fields)
	}
	if err := p.change(ctx, changes, strict, from, to); err != nil {
		return nil, err
	}
	if narrowed {
		shape.Complete(to, versioned, fields)
	}
	scope.Defaulter.Default(to)
	obj, err := scope.UnsafeConvertor.ConvertToVersion(to, scope.HubGroupVersion)
	if err != nil {
		return nil, err
	}
	return p.managed(current, obj), nil
}

// read decodes the patch, and tells what comes twice in it. Each application needs a tree of its own.
func (p *strategicPatch) read() (changes map[string]any, strict []error, err error) {
	changes = map[string]any{}
	if isStrict(directive(p.options.FieldValidation)) {
		strict, err = kjson.UnmarshalStrict(p.data, &changes)
	} else {
		err = kjson.UnmarshalCaseSensitivePreserveInts(p.data, &changes)
	}
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	return changes, strict, nil
}

// change sets an object to what the patch makes of another.
func (p *strategicPatch) change(ctx context.Context, changes map[string]any, strict []error, from, to runtime.Object) error {
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(from)
	if err != nil {
		return err
	}
	validate := directive(p.options.FieldValidation)
	if tree, err = strategicpatch.StrategicMergeMapPatch(tree, changes, p.like); err != nil {
		return unmergeable(err)
	}
	shown := func() string { return fmt.Sprintf("%+v", changes) }
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(tree, to, isStrict(validate)); err != nil {
		more, ok := runtime.AsStrictDecodingError(err)
		if !ok {
			return invalidPatch(shown(), err)
		}
		strict = append(strict, more.Errors()...)
	}
	return p.judge(ctx, strict, validate, shown)
}

// unmergeable gives the errors of patches their codes.
func unmergeable(err error) error {
	for _, bad := range []error{
		mergepatch.ErrBadJSONDoc, mergepatch.ErrBadPatchFormatForPrimitiveList, mergepatch.ErrBadPatchFormatForRetainKeys,
		mergepatch.ErrBadPatchFormatForSetElementOrderList, mergepatch.ErrUnsupportedStrategicMergePatchFormat,
	} {
		if errors.Is(err, bad) {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	for _, bad := range []error{mergepatch.ErrNoListOfLists, mergepatch.ErrPatchContentNotMatchRetainKeys} {
		if errors.Is(err, bad) {
			return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
		}
	}
	return err
}
