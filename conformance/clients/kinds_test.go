package clients_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// dynamicClient walks an object through its life with the dynamic client.
func dynamicClient(t *testing.T, e env) {
	client, err := dynamic.NewForConfig(e.config)
	if err != nil {
		t.Fatal(err)
	}
	maps := client.Resource(configMaps).Namespace(e.namespace)
	list, err := maps.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.GetResourceVersion(), TimeoutSeconds: ptr.To[int64](60)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "d"}, "data": map[string]any{"k": "1"},
	}}
	created, err := maps.Create(t.Context(), obj, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patched, err := maps.Patch(t.Context(), "d", types.MergePatchType, []byte(`{"data":{"k":"2"}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(t.Context(), "d", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		kind watch.EventType
		obj  *unstructured.Unstructured
	}{{watch.Added, created}, {watch.Modified, patched}, {watch.Deleted, patched}} {
		event := <-w.ResultChan()
		if event.Type != want.kind {
			t.Fatalf("the watch sent %s, expected %s", event.Type, want.kind)
		}
		got := event.Object.(*unstructured.Unstructured)
		if event.Type == watch.Deleted { // carries the version of the deletion
			got.SetResourceVersion(patched.GetResourceVersion())
		}
		if diff := cmp.Diff(want.obj, got); diff != "" {
			t.Errorf("%s carries another object (-answered +watched):\n%s", want.kind, diff)
		}
	}
}

// metadataClient reads, patches and deletes through PartialObjectMetadata.
func metadataClient(t *testing.T, e env) {
	client, err := metadata.NewForConfig(e.config)
	if err != nil {
		t.Fatal(err)
	}
	cm := newMap("m", map[string]string{"k": "v"})
	full, err := e.client.CoreV1().ConfigMaps(e.namespace).Create(t.Context(), cm, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	maps := client.Resource(configMaps).Namespace(e.namespace)
	got, err := maps.Get(t.Context(), "m", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full.ObjectMeta, got.ObjectMeta); diff != "" {
		t.Errorf("metadata differ (-object +metadata):\n%s", diff)
	}
	if _, err := maps.Patch(t.Context(), "m", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	list, err := maps.List(t.Context(), metav1.ListOptions{LabelSelector: "a=b"})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].Name != "m" {
		t.Errorf("the list holds %v, expected m alone", list.Items)
	}
}

// encodings reads one object as JSON and as protobuf.
func encodings(t *testing.T, e env) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"a": "b"}},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody",
			Containers:    []corev1.Container{{Name: "c", Image: "registry.example/c:1"}},
		},
	}
	objects := map[string]*corev1.Pod{}
	for name, mediaType := range map[string]string{"json": asJSON, "protobuf": asProtobuf} {
		config := rest.CopyConfig(e.config)
		config.AcceptContentTypes, config.ContentType = mediaType, mediaType
		if name == "protobuf" {
			config.ContentType = "application/vnd.kubernetes.protobuf"
		}
		client := harness.ClientFor(t, config).CoreV1().Pods(e.namespace)
		if _, err := client.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatalf("create as %s: %v", name, err)
		}
		got, err := client.Get(t.Context(), "p", metav1.GetOptions{})
		if err != nil {
			t.Fatalf("get as %s: %v", name, err)
		}
		list, err := client.List(t.Context(), metav1.ListOptions{LabelSelector: "a=b"})
		if err != nil {
			t.Fatalf("list as %s: %v", name, err)
		}
		if len(list.Items) != 1 {
			t.Fatalf("the list as %s holds %d pods, expected 1", name, len(list.Items))
		}
		if diff := cmp.Diff(*got, list.Items[0]); diff != "" {
			t.Errorf("as %s, get and list differ (-get +list):\n%s", name, diff)
		}
		objects[name] = got
	}
	if diff := cmp.Diff(objects["json"], objects["protobuf"]); diff != "" {
		t.Errorf("the encodings differ (-json +protobuf):\n%s", diff)
	}
}

// applyConfigurations applies typed configurations, takes back what a manager owns, and meets a conflict.
func applyConfigurations(t *testing.T, e env) {
	deployments := e.client.AppsV1().Deployments(e.namespace)
	selector := map[string]string{"app": "web"}
	web := func() *appsapply.DeploymentApplyConfiguration {
		return appsapply.Deployment("web", e.namespace).WithSpec(appsapply.DeploymentSpec().
			WithReplicas(2).
			WithSelector(metaapply.LabelSelector().WithMatchLabels(selector)).
			WithTemplate(coreapply.PodTemplateSpec().WithLabels(selector).WithSpec(coreapply.PodSpec().
				WithContainers(coreapply.Container().WithName("web").WithImage("registry.example/web:1")))))
	}
	if _, err := deployments.Apply(t.Context(), web(), metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		t.Fatal(err)
	}
	side := appsapply.Deployment("web", e.namespace).WithSpec(appsapply.DeploymentSpec().
		WithTemplate(coreapply.PodTemplateSpec().WithSpec(coreapply.PodSpec().
			WithContainers(coreapply.Container().WithName("side").WithImage("registry.example/side:1")))))
	if _, err := deployments.Apply(t.Context(), side, metav1.ApplyOptions{FieldManager: "two"}); err != nil {
		t.Fatal(err)
	}
	got, err := deployments.Apply(t.Context(), web(), metav1.ApplyOptions{FieldManager: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Spec.Template.Spec.Containers); n != 2 {
		t.Errorf("the deployment has %d containers, expected those of both managers", n)
	}
	_, err = deployments.Apply(t.Context(), appsapply.Deployment("web", e.namespace).
		WithSpec(appsapply.DeploymentSpec().WithReplicas(5)), metav1.ApplyOptions{FieldManager: "two"})
	if !apierrors.IsConflict(err) || len(apierrors.ReasonForError(err)) == 0 {
		t.Errorf("applying what another manager owns gave %v, expected a conflict", err)
	}
	extracted, err := appsapply.ExtractDeployment(got, "one")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(web(), extracted); diff != "" {
		t.Errorf("what manager one owns is not what it applied (-applied +extracted):\n%s", diff)
	}
	status := appsapply.Deployment("web", e.namespace).WithStatus(appsapply.DeploymentStatus().WithCollisionCount(3))
	got, err = deployments.ApplyStatus(t.Context(), status, metav1.ApplyOptions{FieldManager: "three"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Status.CollisionCount == nil || *got.Status.CollisionCount != 3 || *got.Spec.Replicas != 2 {
		t.Errorf("after an apply of the status, status is %v, and spec.replicas is %d", got.Status, *got.Spec.Replicas)
	}
}

// newMap returns a ConfigMap to create.
func newMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
}
