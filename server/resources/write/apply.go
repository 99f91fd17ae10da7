package write

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// applyConfiguration applies what a manager wants of the fields that it names (server-side apply). What is not there is
// created.
func (p *patch) applyConfiguration(ctx context.Context, current runtime.Object, stored bool) (runtime.Object, error) {
	if !stored {
		var err error
		if current, err = p.h.scope.Creater.New(p.h.scope.Kind); err != nil {
			return nil, fmt.Errorf("failed to create new object: %w", err)
		}
	}
	configuration := &unstructured.Unstructured{}
	var simple bool
	if configuration.Object, simple = plainJSON(p.data); !simple {
		configuration.Object = map[string]any{}
		if err := yaml.Unmarshal(p.data, &configuration.Object); err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
		}
	}
	force := p.options.Force != nil && *p.options.Force
	obj, err := p.h.cfg.Fields.Apply(current, configuration, p.options.FieldManager, force)
	if err != nil {
		return nil, err
	}
	validate := directive(p.options.FieldValidation)
	if simple || !isStrict(validate) {
		return obj, nil
	}
	switch err := yaml.UnmarshalStrict(p.data, &map[string]any{}); {
	case err == nil:
	case validate == metav1.FieldValidationStrict:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error strict decoding YAML: %v", err))
	default:
		warnAll(ctx, []error{err})
	}
	return obj, nil
}
