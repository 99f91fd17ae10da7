package custom_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// What was valid when it was written may stay as it is when the schema gets stricter; what is changed must be valid.
func TestRatcheting(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	if _, err := c.widgets().Create(t.Context(), widget(t, "a", "{replicas: 9}"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) {
		spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		replicas := spec.Properties["replicas"]
		replicas.Maximum = ptr.To(5.0)
		spec.Properties["replicas"] = replicas
	})
	if _, err := c.widgets().Create(t.Context(), widget(t, "b", "{replicas: 9}"), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("created: %v", err)
	}
	for patch, valid := range map[string]bool{`{"spec":{"color":"blue"}}`: true, `{"spec":{"replicas":8}}`: false, `{"metadata":{"labels":{"a":"b"}}}`: true} {
		if _, err := c.widgets().Patch(t.Context(), "a", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); (err == nil) != valid {
			t.Errorf("%s: %v", patch, err)
		}
	}
}

// Lists, watches and deletions select by the fields that a definition names, also when it names others later.
func TestSelectableFields(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	for name, color := range map[string]string{"a": "red", "b": "blue", "c": "blue"} {
		if _, err := c.widgets().Create(t.Context(), widget(t, name, "{color: "+color+"}"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	blue := metav1.ListOptions{FieldSelector: "spec.color=blue"}
	list, err := c.widgets().List(t.Context(), blue)
	if err != nil || len(list.Items) != 2 {
		t.Fatalf("blue: %v, %v", list, err)
	}
	w, err := c.widgets().Watch(t.Context(), metav1.ListOptions{FieldSelector: blue.FieldSelector, ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for _, step := range []struct {
		name, color string
		want        watch.EventType
	}{{"a", "blue", watch.Added}, {"a", "green", watch.Deleted}, {"b", "red", watch.Deleted}, {"b", "blue", watch.Added}} {
		if _, err := c.widgets().Patch(t.Context(), step.name, types.MergePatchType, []byte(`{"spec":{"color":"`+step.color+`"}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		if e := <-w.ResultChan(); e.Type != step.want || e.Object.(*unstructured.Unstructured).GetName() != step.name {
			t.Errorf("%s turned %s: %v", step.name, step.color, e)
		}
	}
	if err := c.widgets().DeleteCollection(t.Context(), metav1.DeleteOptions{}, blue); err != nil {
		t.Fatal(err)
	}
	if list, err = c.widgets().List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 1 || list.Items[0].GetName() != "a" {
		t.Errorf("left: %v, %v", list, err)
	}
	byReplicas := metav1.ListOptions{FieldSelector: "spec.replicas=1"}
	if _, err := c.widgets().List(t.Context(), byReplicas); !apierrors.IsBadRequest(err) {
		t.Errorf("selected by a field that is not named: %v", err)
	}
	c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) {
		crd.Spec.Versions[0].SelectableFields = []apiextensions.SelectableField{{JSONPath: ".spec.replicas"}}
	})
	if list, err := c.widgets().List(t.Context(), byReplicas); err != nil || len(list.Items) != 1 {
		t.Errorf("selected by a field that is named now: %v, %v", list, err)
	}
	if _, err := c.widgets().List(t.Context(), blue); !apierrors.IsBadRequest(err) {
		t.Errorf("selected by a field that is no longer named: %v", err)
	}
}

// A client that watches, and goes on from the last revision that it saw whenever its watch ends, is told of every object
// once while the definition changes again and again.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	list, err := c.widgets().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const writers, each, changes = 4, 25, 4
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			for n := range each {
				if _, err := c.widgets().Create(t.Context(), widget(t, fmt.Sprintf("w%d-%d", i, n), "{}"), metav1.CreateOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Go(func() {
		for n := range changes {
			c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) {
				spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
				spec.Properties[fmt.Sprint("extra", n)] = apiextensions.JSONSchemaProps{Type: "integer", Default: &apiextensions.JSON{Raw: fmt.Append(nil, n)}}
			})
		}
	})
	defer writing.Wait()
	seen, rev, watches := map[string]bool{}, list.GetResourceVersion(), 0
	for len(seen) < writers*each {
		w, err := c.widgets().Watch(t.Context(), metav1.ListOptions{ResourceVersion: rev})
		if err != nil {
			t.Fatal(err)
		}
		watches++
		for e := range w.ResultChan() {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok || e.Type != watch.Added || seen[u.GetName()] {
				t.Fatalf("the watch after %s tells %s of %v", rev, e.Type, e.Object)
			}
			seen[u.GetName()], rev = true, u.GetResourceVersion()
			if len(seen) == writers*each {
				break
			}
		}
		w.Stop()
	}
	t.Logf("%d watches", watches)
}

// Another replica serves under a changed definition as soon as it has heard of it.
func TestReplicasFollowChanges(t *testing.T) {
	t.Parallel()
	db := memory.New()
	a := start(t, servertest.Config{Database: db})
	b := start(t, servertest.Config{Database: db, Keys: a.server.Keys})
	a.define(widgets)
	if _, err := b.widgets().Create(t.Context(), widget(t, "a", "{replicas: 1}"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	a.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) {
		spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		spec.Properties["shape"] = apiextensions.JSONSchemaProps{Type: "string", Default: &apiextensions.JSON{Raw: []byte(`"round"`)}}
	})
	const want = `{"color":"red","replicas":1,"shape":"round"}`
	// A read that is not older than the change waits for the replica to come to it.
	crd, err := a.defs.ApiextensionsV1().CustomResourceDefinitions().Get(t.Context(), "widgets.example.com", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.defs.ApiextensionsV1().CustomResourceDefinitions().Get(t.Context(), crd.Name, metav1.GetOptions{ResourceVersion: crd.ResourceVersion}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*cluster{a, b} {
		if got, err := c.widgets().Get(t.Context(), "a", metav1.GetOptions{}); err != nil || specOf(t, got) != want {
			t.Errorf("got %v, %v", got, err)
		}
	}
	made, err := b.widgets().Create(t.Context(), widget(t, "b", "{shape: square}"), metav1.CreateOptions{})
	if err != nil || specOf(t, made) != `{"color":"red","replicas":1,"shape":"square"}` {
		t.Errorf("created %v, %v", made, err)
	}
	a.eventually("OpenAPI of b", func(ctx context.Context) (bool, error) {
		data, err := b.defs.Discovery().RESTClient().Get().AbsPath("/openapi/v3/apis/example.com/v1").DoRaw(ctx)
		return err == nil && len(data) > 0 && bytes.Contains(data, []byte("shape")), nil
	})
}
