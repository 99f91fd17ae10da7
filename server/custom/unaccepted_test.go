package custom_test

import (
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// TestDefinitionWithoutAcceptedNamesIsNotFound: a definition whose names are another's, or were not looked at yet, is not
// served, and that is no error of the server.
func TestDefinitionWithoutAcceptedNamesIsNotFound(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	first := c.define(widgets)
	second := first.DeepCopy()
	second.ObjectMeta = metav1.ObjectMeta{Name: "widgetoids." + first.Spec.Group}
	second.Status = apiextensions.CustomResourceDefinitionStatus{}
	second.Spec.Names = apiextensions.CustomResourceDefinitionNames{Plural: "widgetoids", Singular: "widgetoid", Kind: first.Spec.Names.Kind, ListKind: "WidgetoidList"}
	if _, err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), second, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		resource := c.dynamic.Resource(schema.GroupVersionResource{Group: first.Spec.Group, Version: first.Spec.Versions[0].Name, Resource: "widgetoids"}).Namespace("default")
		for verb, do := range map[string]func() error{
			"list": func() error { _, err := resource.List(t.Context(), metav1.ListOptions{}); return err },
			"create": func() error {
				_, err := resource.Create(t.Context(), widget(t, "a", "{}"), metav1.CreateOptions{})
				return err
			},
			"delete": func() error { return resource.Delete(t.Context(), "a", metav1.DeleteOptions{}) },
		} {
			if err := do(); !apierrors.IsNotFound(err) {
				t.Fatalf("%s: %v, want NotFound", verb, err)
			}
		}
	}
}
