package custom_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/rowlock-io/rowlock/server/servertest"
)

func specOf(t *testing.T, u *unstructured.Unstructured) string {
	t.Helper()
	data, err := json.Marshal(u.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// change edits a definition.
func (c *cluster) change(name string, edit func(*apiextensions.CustomResourceDefinition)) {
	c.t.Helper()
	defs := c.defs.ApiextensionsV1().CustomResourceDefinitions()
	for {
		crd, err := defs.Get(c.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
		edit(crd)
		if _, err = defs.Update(c.t.Context(), crd, metav1.UpdateOptions{}); err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			c.t.Fatal(err)
		}
	}
}

func ended(t *testing.T, w watch.Interface) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				return
			}
			if e.Type == watch.Error {
				t.Errorf("watch ended with %v", e.Object)
			}
		case <-timeout:
			t.Fatal("watch goes on")
		}
	}
}

// Another schema holds at once for what was stored under the one before, in reads, lists and watches, and watches that
// began before end.
func TestSchemaChange(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	if _, err := c.widgets().Create(t.Context(), widget(t, "a", "{replicas: 2, parts: [{name: x, size: 1}]}"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	before, err := c.widgets().Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer before.Stop()
	c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) {
		spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		delete(spec.Properties, "parts")
		spec.Properties["shape"] = apiextensions.JSONSchemaProps{Type: "string", Default: &apiextensions.JSON{Raw: []byte(`"round"`)}}
		crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"] = spec
	})
	const want = `{"color":"red","replicas":2,"shape":"round"}`
	got, err := c.widgets().Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || specOf(t, got) != want {
		t.Fatalf("after the change: %v, %v", got, err)
	}
	list, err := c.widgets().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || specOf(t, &list.Items[0]) != want {
		t.Errorf("list after the change: %v, %v", list, err)
	}
	after, err := c.widgets().Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer after.Stop()
	if e := <-after.ResultChan(); specOf(t, e.Object.(*unstructured.Unstructured)) != want {
		t.Errorf("watch after the change: %v", e)
	}
	ended(t, before)
	// An update that changes nothing stores what is shown.
	if _, err := c.widgets().Update(t.Context(), got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	again, err := c.widgets().Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || specOf(t, again) != want || again.GetResourceVersion() == got.GetResourceVersion() {
		t.Errorf("after an update: %v, %v", again, err)
	}
}

// What is deleted with its definition stays deleted when the definition returns with another schema.
func TestRecreated(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	if _, err := c.widgets().Create(t.Context(), widget(t, "a", "{replicas: 2}"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w, err := c.widgets().Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	<-w.ResultChan()
	if err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Delete(t.Context(), "widgets.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if e := <-w.ResultChan(); e.Type != watch.Deleted {
		t.Errorf("the watch tells of %s", e.Type)
	}
	c.gone("widgets.example.com")
	ended(t, w)
	c.define(strings.ReplaceAll(widgets, "color", "paint"))
	list, err := c.widgets().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 0 {
		t.Fatalf("new definition has %v, %v", list, err)
	}
	made, err := c.widgets().Create(t.Context(), widget(t, "a", "{color: blue}"), metav1.CreateOptions{})
	if err != nil || specOf(t, made) != `{"paint":"red","replicas":1}` {
		t.Errorf("created %v, %v", made, err)
	}
}

// Status and scale are resources of their own, and server-side apply knows the schema's keys.
func TestSubresourcesAndApply(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	apply := func(manager, spec string) *unstructured.Unstructured {
		t.Helper()
		u, err := c.widgets().Apply(t.Context(), "a", widget(t, "a", spec), metav1.ApplyOptions{FieldManager: manager})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	apply("one", "{replicas: 1, parts: [{name: x, size: 1}]}")
	if got := specOf(t, apply("two", "{parts: [{name: other, size: 2}]}")); got != `{"color":"red","parts":[{"name":"x","size":1},{"name":"other","size":2}],"replicas":1}` {
		t.Errorf("applied by two: %s", got)
	}
	if _, err := c.widgets().Apply(t.Context(), "a", widget(t, "a", "{replicas: 3}"), metav1.ApplyOptions{FieldManager: "two"}); !apierrors.IsConflict(err) {
		t.Errorf("a field of another's was applied: %v", err)
	}
	u, err := c.widgets().Patch(t.Context(), "a", types.MergePatchType, []byte(`{"spec":{"replicas":5},"status":{"replicas":4,"selector":"a=b"}}`), metav1.PatchOptions{}, "status")
	if err != nil || !strings.Contains(specOf(t, u), `"replicas":1`) {
		t.Fatalf("patched status: %v, %v", u, err)
	}
	scale, err := c.widgets().Patch(t.Context(), "a", types.MergePatchType, []byte(`{"spec":{"replicas":7}}`), metav1.PatchOptions{}, "scale")
	if err != nil {
		t.Fatal(err)
	}
	status, err := json.Marshal(scale.Object["status"])
	if err != nil || string(status) != `{"replicas":4,"selector":"a=b"}` {
		t.Errorf("scale's status is %s, %v", status, err)
	}
	u, err = c.widgets().Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || !strings.Contains(specOf(t, u), `"replicas":7`) || u.GetGeneration() != 3 {
		t.Errorf("scaled: %v, %v", u, err)
	}
	if _, err := c.widgets().Patch(t.Context(), "a", types.MergePatchType, []byte(`{"spec":{"replicas":70}}`), metav1.PatchOptions{}, "scale"); !apierrors.IsInvalid(err) {
		t.Errorf("scaled beyond a rule: %v", err)
	}
	dry, err := c.widgets().Create(t.Context(), widget(t, "dry", "{}"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil || specOf(t, dry) != `{"color":"red","replicas":1}` {
		t.Errorf("dry run: %v, %v", dry, err)
	}
	if err := c.widgets().DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if list, err := c.widgets().List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 0 {
		t.Errorf("left %v, %v", list, err)
	}
}

// Versions without a webhook differ in their names only; unserved ones are not there, deprecated ones warn.
func TestVersions(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	c.define(widgets)
	if _, err := c.widgets().Create(t.Context(), widget(t, "a", "{replicas: 2}"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) {
		v2 := crd.Spec.Versions[0].DeepCopy()
		v2.Name = "v2"
		crd.Spec.Versions[0].Storage, crd.Spec.Versions[0].Deprecated = false, true
		crd.Spec.Versions = append(crd.Spec.Versions, *v2)
	})
	v2 := c.dynamic.Resource(widgetsResource.GroupResource().WithVersion("v2")).Namespace("default")
	got, err := v2.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || got.GetAPIVersion() != "example.com/v2" {
		t.Fatalf("in v2: %v, %v", got, err)
	}
	list, err := v2.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].GetAPIVersion() != "example.com/v2" {
		t.Errorf("listed in v2: %v, %v", list, err)
	}
	got, err = c.widgets().Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || got.GetAPIVersion() != "example.com/v1" {
		t.Errorf("in v1: %v, %v", got, err)
	}
	wire := servertest.NewWire()
	defer wire.Close()
	r := wire.Send(t, c.server.URL, servertest.Request{Method: http.MethodGet, Path: "/apis/example.com/v1/widgets", Token: servertest.AdminToken})
	if w := r.Header.Get("Warning"); !strings.Contains(w, "example.com/v1 Widget is deprecated; use example.com/v2 Widget") {
		t.Errorf("warning is %q", w)
	}
	crd, err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Get(t.Context(), "widgets.example.com", metav1.GetOptions{})
	if err != nil || strings.Join(crd.Status.StoredVersions, " ") != "v1 v2" {
		t.Errorf("stored versions are %v, %v", crd.Status.StoredVersions, err)
	}
	c.change("widgets.example.com", func(crd *apiextensions.CustomResourceDefinition) { crd.Spec.Versions[0].Served = false })
	if _, err := c.widgets().Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("in a version that is not served: %v", err)
	}
	if _, err := v2.Get(t.Context(), "a", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// The names of a definition never reach the rows of another resource.
func TestAPIGroupsInStoreKeys(t *testing.T) {
	t.Parallel()
	c := start(t, servertest.Config{})
	core := c.server.Client(t, servertest.Default)
	like := func(plural, group string) string {
		return strings.NewReplacer("widgets.example.com", plural+"."+group, "group: example.com", "group: "+group, "plural: widgets", "plural: "+plural,
			"scope: Namespaced", "scope: Cluster").Replace(widgets)
	}
	for _, bad := range []struct{ plural, group string }{
		{"deployments", "apps"},
		{"pods", ""},
		{"pods", "."},
		{"pods/status", "example.com"},
		{"../pods", "example.com"},
		{"pods.example", "com"},
		{"pods%2f", "example.com"},
		{"PODS", "example.com"},
		{"pods\x00", "example.com"},
		{"pods", "example.com/custom"},
	} {
		crd := definition(t, widgets)
		crd.Name = bad.plural + "." + bad.group
		crd.Spec.Group, crd.Spec.Names.Plural = bad.group, bad.plural
		if _, err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), crd, metav1.CreateOptions{}); err == nil {
			t.Errorf("%q of group %q was accepted", bad.plural, bad.group)
		}
	}
	// A version of a built-in group that is not built in may be defined, with approval: its name is that of built-in rows.
	crd := definition(t, like("clusterroles", "rbac.authorization.k8s.io"))
	crd.Annotations = map[string]string{apiextensions.KubeAPIApprovedAnnotation: "unapproved, testing"}
	crd.Spec.Versions[0].Name = "v9"
	crd.Spec.Names.Kind, crd.Spec.Names.ListKind, crd.Spec.Names.Singular = "ClusterRole", "ClusterRoleList", "clusterrole"
	if _, err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), crd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await(crd.Name, apiextensions.Established)
	fake := c.dynamic.Resource(schema.GroupVersionResource{Group: crd.Spec.Group, Version: "v9", Resource: "clusterroles"})
	list, err := fake.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 0 {
		t.Fatalf("a definition shows %d built-in objects, %v", len(list.Items), err)
	}
	if _, err := fake.Get(t.Context(), "cluster-admin", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("built-in object through a definition: %v", err)
	}
	mine := object(t, "{apiVersion: rbac.authorization.k8s.io/v9, kind: ClusterRole, metadata: {name: cluster-admin}, spec: {color: mine}}")
	if _, err := fake.Create(t.Context(), mine, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	role, err := core.RbacV1().ClusterRoles().Get(t.Context(), "cluster-admin", metav1.GetOptions{})
	if err != nil || len(role.Rules) == 0 {
		t.Errorf("built-in object was overwritten: %v, %v", role, err)
	}
	if err := fake.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	if err := c.defs.ApiextensionsV1().CustomResourceDefinitions().Delete(t.Context(), crd.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.gone(crd.Name)
	if _, err := core.RbacV1().ClusterRoles().Get(t.Context(), "cluster-admin", metav1.GetOptions{}); err != nil {
		t.Errorf("built-in object went with a definition: %v", err)
	}
}
