package custom

import (
	"context"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	client "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// outlineClient answers writes without schemas: upstream's controller of names keeps the answers for a minute and longer.
type outlineClient struct {
	client.CustomResourceDefinitionsGetter
}

// CustomResourceDefinitions implements CustomResourceDefinitionsGetter.
func (c outlineClient) CustomResourceDefinitions() client.CustomResourceDefinitionInterface {
	return outlineDefinitions{c.CustomResourceDefinitionsGetter.CustomResourceDefinitions()}
}

type outlineDefinitions struct {
	client.CustomResourceDefinitionInterface
}

// UpdateStatus implements CustomResourceDefinitionInterface.
func (c outlineDefinitions) UpdateStatus(ctx context.Context, crd *apiextensions.CustomResourceDefinition, opts metav1.UpdateOptions,
) (*apiextensions.CustomResourceDefinition, error) {
	updated, err := c.CustomResourceDefinitionInterface.UpdateStatus(ctx, crd, opts)
	if updated != nil {
		for i := range updated.Spec.Versions {
			updated.Spec.Versions[i].Schema = nil
		}
	}
	return updated, err
}
