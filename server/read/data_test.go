package read_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"github.com/rowlock-io/rowlock/storage"
)

var created = metav1.NewTime(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

func objectMeta(namespace, name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID("uid-" + namespace + "-" + name), CreationTimestamp: created, Labels: labels,
		ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "test", Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1", Time: &created,
			FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:data":{"f:key":{}}}`)},
		}},
	}
}

// stored is a versioned object as registries store it: defaulted.
func stored(obj runtime.Object) runtime.Object {
	legacyscheme.Scheme.Default(obj)
	return obj
}

func configMap(namespace, name string, labels map[string]string, data string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: objectMeta(namespace, name, labels), Data: map[string]string{"key": data}}
}

func pod(namespace, name, node string, labels map[string]string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: objectMeta(namespace, name, labels)}
	p.Generation = 3
	p.Spec.NodeName = node
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "registry.example/<app>&co:1"}}
	p.Status.Phase = corev1.PodRunning
	p.Status.StartTime = &created
	return p
}

func event(namespace, name, reason string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta: objectMeta(namespace, name, nil), Reason: reason, Type: "Normal", Message: "  \u2028 <b>",
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: "p"}, FirstTimestamp: created,
	}
}

func namespace(name string) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: objectMeta("", name, map[string]string{"kubernetes.io/metadata.name": name})}
	n.Status.Phase = corev1.NamespaceActive
	return n
}

// fill puts a little of everything into the cluster and returns the revision afterwards.
func (c *cluster) fill(t testing.TB) storage.Revision {
	t.Helper()
	for _, ns := range []string{"default", "default-2", "kube-system"} {
		c.put(t, "namespaces", stored(namespace(ns)))
	}
	for i := range 12 {
		labels := map[string]string{"app": "web", "n": fmt.Sprint(i), "half": fmt.Sprint(i % 2)}
		if i == 7 {
			labels = nil
		}
		c.put(t, "configmaps", stored(configMap("default", fmt.Sprintf("cm-%02d", i), labels, "ü\"\n<&>")))
		c.put(t, "configmaps", stored(configMap("kube-system", fmt.Sprintf("sys-%02d", i), labels, "")))
		c.put(t, "pods", stored(pod("default", fmt.Sprintf("pod-%02d", i), fmt.Sprintf("node-%d", i%3), labels)))
	}
	bare := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default-2", Name: "bare"}}
	c.put(t, "configmaps", stored(bare))
	c.put(t, "events", stored(event("default", "ev-1", "Started")))
	return c.put(t, "events", stored(event("default", "ev-2", "Killing")))
}

// big makes n ConfigMaps of about a kilobyte, of which one in a hundred has tier=gold.
func (c *cluster) big(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		labels := map[string]string{"app": "load", "shard": fmt.Sprint(i % 16), "tier": "iron"}
		if i%100 == 0 {
			labels["tier"] = "gold"
		}
		c.put(t, "configmaps", stored(configMap("load", fmt.Sprintf("cm-%05d", i), labels, strings.Repeat("x", 600))))
	}
}

func decodeProtobuf(data []byte) (runtime.Object, error) {
	return runtime.Decode(legacyscheme.Codecs.UniversalDeserializer(), data)
}
