package write

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/warning"
)

// oneOwnerEach drops owner references that come twice, with a warning in the words for before or after admission.
func oneOwnerEach(ctx context.Context, obj runtime.Object, words string) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return
	}
	refs := accessor.GetOwnerReferences()
	if len(refs) < 2 {
		return
	}
	kept := make([]metav1.OwnerReference, 0, len(refs))
	seen := map[types.UID]bool{}
	var twice []string
	for _, ref := range refs {
		if seen[ref.UID] && contains(kept, ref) {
			twice = append(twice, string(ref.UID))
			continue
		}
		seen[ref.UID] = true
		kept = append(kept, ref)
	}
	if len(twice) > 0 {
		warning.AddWarning(ctx, "", fmt.Sprintf(words, strings.Join(twice, ", ")))
		accessor.SetOwnerReferences(kept)
	}
}

func contains(refs []metav1.OwnerReference, ref metav1.OwnerReference) bool {
	for _, r := range refs {
		if equality.Semantic.DeepEqual(r, ref) {
			return true
		}
	}
	return false
}

const (
	beforeAdmission = handlers.DuplicateOwnerReferencesWarningFormat
	afterAdmission  = handlers.DuplicateOwnerReferencesAfterMutatingAdmissionWarningFormat
)
