package fieldmanager

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// conflict is what a configuration would change of what another one owns.
type conflict struct {
	identity
	set *fieldpath.Set
}

// conflicts is the error of a configuration that is not forced.
type conflicts []conflict

// Error implements error.
func (c conflicts) Error() string { return c.status().Error() }

// status says it in upstream's words.
func (c conflicts) status() *apierrors.StatusError {
	slices.SortFunc(c, func(a, b conflict) int { return strings.Compare(a.key(), b.key()) })
	var causes []metav1.StatusCause
	var lines []string
	for _, met := range c {
		who := met.describe()
		lines = append(lines, fmt.Sprintf("conflicts with %v:", who))
		met.set.Iterate(func(p fieldpath.Path) {
			causes = append(causes, metav1.StatusCause{
				Type: metav1.CauseTypeFieldManagerConflict, Message: "conflict with " + who, Field: p.String(),
			})
			lines = append(lines, fmt.Sprintf("- %v", p))
		})
	}
	message := fmt.Sprintf("Apply failed with %d conflicts: %s", len(causes), strings.Join(lines, "\n"))
	if len(causes) == 1 {
		message = fmt.Sprintf("Apply failed with 1 conflict: %s: %s", causes[0].Message, causes[0].Field)
	}
	return apierrors.NewApplyConflict(causes, message)
}

func (id identity) describe() string {
	who := fmt.Sprintf("%q", id.manager)
	if id.subresource != "" {
		who = fmt.Sprintf("%s with subresource %q", who, id.subresource)
	}
	if id.operation == metav1.ManagedFieldsOperationUpdate {
		who = fmt.Sprintf("%s using %v", who, id.apiVersion)
	}
	return who
}

// without drops the fields of a set from the conflicts.
func (c conflicts) without(s *fieldpath.Set) conflicts {
	var out conflicts
	for _, met := range c {
		if left := met.set.Difference(s); !left.Empty() {
			out = append(out, conflict{met.identity, left})
		}
	}
	return out
}

// isMissing tells whether an object cannot be had in a version because nobody knows it. Upstream's type of that error is its
// own; unknown makes one.
func isMissing(unknown managedfields.TypeConverter) func(error) bool {
	_, sample := unknown.ObjectToTyped(&unstructured.Unstructured{})
	like := fmt.Sprintf("%T", sample)
	return func(err error) bool {
		return runtime.IsNotRegisteredError(err) || err != nil && errors.Unwrap(err) == nil && fmt.Sprintf("%T", err) == like
	}
}
