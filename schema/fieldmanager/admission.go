package fieldmanager

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/admission"
	upstream "k8s.io/apiserver/pkg/endpoints/handlers/fieldmanager"
	"k8s.io/apiserver/pkg/warning"
)

// Admission returns the admission that runs another one and puts back the managedFields that were there before when it made
// them invalid, as upstream's NewManagedFieldsValidatingAdmissionController does. Entries that were not touched are not
// looked at: a Manager wrote them.
func (f *Factory) Admission(wrap admission.Interface) admission.Interface {
	if wrap == nil {
		return nil
	}
	return &validating{wrap, f.sets}
}

type validating struct {
	admission.Interface
	sets *sets
}

// Admit implements admission.MutationInterface.
func (v *validating) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	mutating, ok := v.Interface.(admission.MutationInterface)
	if !ok {
		return nil
	}
	accessor, err := meta.Accessor(a.GetObject())
	if err != nil {
		return mutating.Admit(ctx, a, o) // there is nothing to keep
	}
	given := accessor.GetManagedFields()
	before := slices.Clone(given)
	if err := mutating.Admit(ctx, a, o); err != nil {
		return err
	}
	after := accessor.GetManagedFields()
	for i := range after {
		if i < len(before) && after[i] == before[i] {
			continue
		}
		if _, ok := v.sets.check(&after[i]); ok {
			continue
		}
		accessor.SetManagedFields(given)
		warning.AddWarning(ctx, "", fmt.Sprintf(upstream.InvalidManagedFieldsAfterMutatingAdmissionWarningFormat, managedfields.ValidateManagedFields(after)))
		break
	}
	return nil
}

// Validate implements admission.ValidationInterface.
func (v *validating) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if validating, ok := v.Interface.(admission.ValidationInterface); ok {
		return validating.Validate(ctx, a, o)
	}
	return nil
}
