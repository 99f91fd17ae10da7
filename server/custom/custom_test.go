package custom_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	clientset "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// cluster is a server with clients for definitions and their objects.
type cluster struct {
	t       *testing.T
	server  *servertest.Server
	defs    clientset.Interface
	dynamic dynamic.Interface
}

func start(t *testing.T, cfg servertest.Config) *cluster {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s := servertest.Start(t, cfg)
	rest := s.Config(servertest.Default, servertest.AdminToken)
	defs, err := clientset.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, server: s, defs: defs, dynamic: dyn}
}

func definition(t *testing.T, text string) *apiextensions.CustomResourceDefinition {
	t.Helper()
	crd := &apiextensions.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict([]byte(text), crd); err != nil {
		t.Fatal(err)
	}
	return crd
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return u
}

// define creates a definition and waits until it is established.
func (c *cluster) define(text string) *apiextensions.CustomResourceDefinition {
	c.t.Helper()
	crd, err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Create(c.t.Context(), definition(c.t, text), metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return c.await(crd.Name, apiextensions.Established)
}

func (c *cluster) await(name string, condition apiextensions.CustomResourceDefinitionConditionType) *apiextensions.CustomResourceDefinition {
	c.t.Helper()
	var crd *apiextensions.CustomResourceDefinition
	c.eventually(string(condition)+" of "+name, func(ctx context.Context) (bool, error) {
		var err error
		crd, err = c.defs.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, name, metav1.GetOptions{})
		return err == nil && apihelpers.IsCRDConditionTrue(crd, condition), err
	})
	return crd
}

func (c *cluster) gone(name string) {
	c.t.Helper()
	c.eventually("end of "+name, func(ctx context.Context) (bool, error) {
		_, err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}

func (c *cluster) eventually(what string, f wait.ConditionWithContextFunc) {
	c.t.Helper()
	if err := wait.PollUntilContextTimeout(c.t.Context(), 10*time.Millisecond, 20*time.Second, true, f); err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

const widgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd], categories: [all]}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}}
    selectableFields: [{jsonPath: .spec.color}]
    additionalPrinterColumns:
    - {name: Color, type: string, jsonPath: .spec.color}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: "self.replicas <= 10", message: "too many"}
            properties:
              color: {type: string, default: red}
              replicas: {type: integer, default: 1, minimum: 0}
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, required: [name], properties: {name: {type: string}, size: {type: integer}}}
          status:
            type: object
            properties: {replicas: {type: integer}, selector: {type: string}}
`

var widgetsResource = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}

func (c *cluster) widgets() dynamic.ResourceInterface {
	return c.dynamic.Resource(widgetsResource).Namespace("default")
}

func widget(t *testing.T, name, spec string) *unstructured.Unstructured {
	t.Helper()
	return object(t, "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: "+name+"}\nspec: "+spec)
}

// A definition makes a resource that can be created, read, changed and deleted.
func TestServed(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	made, err := c.widgets().Create(t.Context(), widget(t, "a", "{replicas: 2, unknown: x}"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec, _, _ := unstructured.NestedMap(made.Object, "spec")
	if got, _ := json.Marshal(spec); string(got) != `{"color":"red","replicas":2}` {
		t.Errorf("created spec is %s", got)
	}
	if _, err := c.widgets().Create(t.Context(), widget(t, "b", "{replicas: 11}"), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a rule was not applied: %v", err)
	}
	list, err := c.widgets().List(t.Context(), metav1.ListOptions{FieldSelector: "spec.color=red"})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("listed %v, %v", list, err)
	}
	if err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Delete(t.Context(), "widgets.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.gone("widgets.example.com")
	if _, err := c.widgets().Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("object of a deleted definition: %v", err)
	}
}
