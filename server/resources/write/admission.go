package write

import (
	"context"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/registry/rest"
)

// target is the object that a request writes to, as admission sees it.
type target struct {
	h               *Handlers
	namespace, name string
	user            user.Info
	dryRun          bool
	size            int // of the body
}

func (t *target) attributes(obj, old runtime.Object, op admission.Operation, options runtime.Object) admission.Attributes {
	s := t.h.scope
	return admission.NewAttributesRecord(obj, old, s.Kind, t.namespace, t.name, s.Resource, s.Subresource, op, options, t.dryRun, t.user)
}

// mutate lets admission change an object before it is written.
func (t *target) mutate(ctx context.Context, obj, old runtime.Object, op admission.Operation, options runtime.Object) error {
	if t.h.mutating == nil || !t.h.mutating.Handles(op) {
		return nil
	}
	return t.h.mutating.Admit(ctx, t.attributes(obj, old, op, options), t.h.scope)
}

// validateCreate lets admission judge an object that is about to be created.
func (t *target) validateCreate(options func() runtime.Object) rest.ValidateObjectFunc {
	if t.h.validating == nil {
		return func(context.Context, runtime.Object) error { return nil }
	}
	return func(ctx context.Context, obj runtime.Object) error {
		if !t.h.validating.Handles(admission.Create) {
			return nil
		}
		named := *t
		if named.name == "" { // it was generated meanwhile
			if accessor, err := meta.Accessor(obj); err == nil {
				named.name = accessor.GetName()
			}
		}
		return t.h.validating.Validate(ctx, named.attributes(obj, nil, admission.Create, options()), t.h.scope)
	}
}

// validateUpdate lets admission judge an object that is about to be replaced.
func (t *target) validateUpdate(options runtime.Object) rest.ValidateObjectUpdateFunc {
	if t.h.validating == nil {
		return func(context.Context, runtime.Object, runtime.Object) error { return nil }
	}
	return func(ctx context.Context, obj, old runtime.Object) error {
		if !t.h.validating.Handles(admission.Update) {
			return nil
		}
		return t.h.validating.Validate(ctx, t.attributes(obj, old, admission.Update, options), t.h.scope)
	}
}

var errNoAuthorizer = errors.New("no authorizer provided, unable to authorize a create on update")

// mayCreate asks whether who updates may create what is not there. It asks once for a request.
func (t *target) mayCreate(path string, validate rest.ValidateObjectFunc) rest.ValidateObjectFunc {
	s := t.h.scope
	attributes := func() authorizer.AttributesRecord {
		return authorizer.AttributesRecord{
			User: t.user, ResourceRequest: true, Path: path, Verb: "create", APIGroup: s.Resource.Group, APIVersion: s.Resource.Version,
			Resource: s.Resource.Resource, Subresource: s.Subresource, Namespace: t.namespace, Name: t.name,
		}
	}
	var once sync.Once
	var decision authorizer.Decision
	var reason string
	var failure error
	return func(ctx context.Context, obj runtime.Object) error {
		if s.Authorizer == nil {
			return apierrors.NewInternalError(errNoAuthorizer)
		}
		once.Do(func() { decision, reason, failure = s.Authorizer.Authorize(ctx, attributes()) })
		switch {
		case decision == authorizer.DecisionAllow: // even if some of the authorizers failed
			return validate(ctx, obj)
		case failure != nil:
			return apierrors.NewInternalError(failure)
		}
		return responsewriters.ForbiddenStatusError(attributes(), reason)
	}
}

// hasUID tells whether an object is stored.
func hasUID(obj runtime.Object) (bool, error) {
	if obj == nil {
		return false, nil
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	return accessor.GetUID() != "", nil
}

// checkName compares what an object says of its place with what the path says.
func (t *target) checkName(obj runtime.Object) error {
	namespace, name, err := t.h.scope.Namer.ObjectName(obj)
	switch {
	case err != nil:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: %v", t.name, err))
	case name != t.name:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, t.name))
	case t.namespace != "" && namespace != "" && namespace != t.namespace:
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the namespace of the object (%s) does not match the namespace on the request (%s)", namespace, t.namespace))
	}
	return nil
}

// checkNamespace sets an object's namespace to that of the request, or says that they differ.
func (t *target) checkNamespace(obj metav1.Object) error {
	return rest.EnsureObjectNamespaceMatchesRequestNamespace(rest.ExpectedNamespaceForResource(t.namespace, t.h.scope.Resource), obj)
}
