package write

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/registry/rest"
)

// validateDelete lets admission judge an object that is about to be deleted.
func (t *target) validateDelete(options *metav1.DeleteOptions) rest.ValidateObjectFunc {
	mutates := t.h.mutating != nil && t.h.mutating.Handles(admission.Delete)
	validates := t.h.validating != nil && t.h.validating.Handles(admission.Delete)
	if !mutates && !validates {
		return func(context.Context, runtime.Object) error { return nil }
	}
	return func(ctx context.Context, stored runtime.Object) error {
		d := &deletion{Attributes: t.attributes(nil, nil, admission.Delete, options), stored: stored}
		if mutates {
			if err := t.h.mutating.Admit(ctx, d, t.h.scope); err != nil {
				return err
			}
		}
		if validates {
			return t.h.validating.Validate(ctx, d, t.h.scope)
		}
		return nil
	}
}

// deletion is what admission gets to know of a deletion. It copies the object for the first plug-in that looks at it: with
// neither webhooks nor policies there mostly is none, and a pod's copy costs more than all their judgements.
type deletion struct {
	admission.Attributes

	stored runtime.Object
	copied sync.Once
	old    runtime.Object

	mu          sync.Mutex
	annotations map[string]annotation
}

type annotation struct {
	value string
	level auditapi.Level
}

var _ admission.AnnotationsGetter = (*deletion)(nil)

// GetOldObject implements admission.Attributes.
func (d *deletion) GetOldObject() runtime.Object {
	d.copied.Do(func() { d.old = d.stored.DeepCopyObject() })
	return d.old
}

// AddAnnotation implements admission.Attributes.
func (d *deletion) AddAnnotation(key, value string) error {
	return d.AddAnnotationWithLevel(key, value, auditapi.LevelMetadata)
}

// AddAnnotationWithLevel implements admission.Attributes. Upstream's attributes check, and hand out what they have to their own
// package alone.
func (d *deletion) AddAnnotationWithLevel(key, value string, level auditapi.Level) error {
	if err := d.Attributes.AddAnnotationWithLevel(key, value, level); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.annotations == nil {
		d.annotations = map[string]annotation{}
	}
	d.annotations[key] = annotation{value: value, level: level}
	return nil
}

// GetAnnotations implements admission.AnnotationsGetter, for the audit log.
func (d *deletion) GetAnnotations(most auditapi.Level) map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.annotations == nil {
		return nil
	}
	out := make(map[string]string, len(d.annotations))
	for key, a := range d.annotations {
		if a.level.Less(most) || a.level == most {
			out[key] = a.value
		}
	}
	return out
}
