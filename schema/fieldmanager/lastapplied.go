package fieldmanager

import (
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

const (
	lastApplied = "kubectl.kubernetes.io/last-applied-configuration"
	kubectl     = "kubectl"
)

// applyAsKubectl is apply, and knows what kubectl leaves in an annotation: when kubectl applies on the server what it
// applied by itself before, that is no conflict, and the annotation is kept up to date.
func (m *Manager) applyAsKubectl(live, config runtime.Object, before owners, manager string, force bool) (runtime.Object, owners, error) {
	out, after, err := m.apply(live, config, before, manager, force)
	if manager != kubectl {
		return out, after, err
	}
	if met, ok := err.(conflicts); ok { //nolint:errorlint // nothing wraps them
		applied, notApplied := m.lastApplied(live)
		if notApplied == nil {
			if left := met.without(applied); len(left) > 0 {
				return nil, nil, left
			}
			out, after, err = m.apply(live, config, before, manager, true)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	accessor, err := meta.Accessor(out)
	if err != nil {
		panic(fmt.Sprintf("couldn't get accessor: %v", err))
	}
	if accessor.GetAnnotations()[lastApplied] == "" {
		return out, after, nil
	}
	annotation, err := annotationOf(config)
	if err != nil {
		return nil, nil, says("failed to build last-applied annotation: %v", err)
	}
	annotations := accessor.GetAnnotations()
	annotations[lastApplied] = annotation
	if apivalidation.ValidateAnnotationsSize(annotations) != nil {
		delete(annotations, lastApplied)
	}
	accessor.SetAnnotations(annotations)
	return out, after, nil
}

// annotationOf is what kubectl would leave after it applied a configuration.
func annotationOf(config runtime.Object) (string, error) {
	config = config.DeepCopyObject()
	accessor, err := meta.Accessor(config)
	if err != nil {
		panic(fmt.Sprintf("couldn't get accessor: %v", err))
	}
	annotations := accessor.GetAnnotations()
	delete(annotations, lastApplied)
	accessor.SetAnnotations(annotations)
	data, err := runtime.Encode(unstructured.UnstructuredJSONScheme, config)
	if err != nil {
		return "", says("couldn't encode object into last applied annotation: %v", err)
	}
	return string(data), nil
}

// lastApplied returns the fields of the live object that are as kubectl applied them; an error when there are none to tell.
func (m *Manager) lastApplied(live runtime.Object) (*fieldpath.Set, error) {
	accessor, err := meta.Accessor(live)
	if err != nil {
		panic(fmt.Sprintf("couldn't get accessor: %v", err))
	}
	annotation := accessor.GetAnnotations()[lastApplied]
	if annotation == "" {
		return nil, errors.New("no annotation")
	}
	versioned, err := m.toVersion(live)
	if err != nil {
		return nil, err
	}
	liveTyped, err := m.types.ObjectToTyped(versioned)
	if err != nil {
		return nil, err
	}
	config := &unstructured.Unstructured{Object: map[string]any{}}
	if err := json.Unmarshal([]byte(annotation), config); err != nil {
		return nil, err
	}
	if config.GetAPIVersion() != m.kind.GroupVersion().String() {
		return nil, errors.New("another version")
	}
	configTyped, err := m.types.ObjectToTyped(config)
	if err != nil {
		return nil, err
	}
	set, err := configTyped.ToFieldSet()
	if err != nil {
		return nil, err
	}
	change, err := configTyped.Compare(liveTyped)
	if err != nil {
		return nil, err
	}
	return set.Difference(change.Modified).Difference(change.Added).Difference(change.Removed), nil
}
