package read_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"github.com/rowlock-io/rowlock/server/read"
)

// TestWrittenByRegistries: what upstream's registries store, after their strategies have been at it, reads the same from
// bytes as it does decoded, defaulted and encoded.
func TestWrittenByRegistries(t *testing.T) {
	t.Parallel()
	c, h := newCluster(t, read.Config{})
	server, oracle := c.servers(t, h)
	small := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "small"}}
	small.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	rich := pod("default", "rich", "", map[string]string{"a": "b"})
	rich.Finalizers = []string{"example.com/hold"}
	rich.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/x", Port: intstr.FromInt32(80)}}}
	rich.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/p"}}}}
	rich.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
	}}
	for resource, objs := range map[string][]runtime.Object{
		"configmaps": {&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "m"}, BinaryData: map[string][]byte{"b": {0, 255}}}},
		"namespaces": {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}},
		"pods":       {small, rich},
		"events":     {event("default", "e", "r")},
	} {
		storage := c.resources[resource].storage
		for _, obj := range objs {
			m, err := meta.Accessor(obj)
			if err != nil {
				t.Fatal(err)
			}
			internal, err := legacyscheme.Scheme.UnsafeConvertToVersion(stored(obj), runtime.InternalGroupVersioner)
			if err != nil {
				t.Fatal(err)
			}
			ctx := request.WithNamespace(request.NewContext(), m.GetNamespace())
			ctx = request.WithRequestInfo(ctx, &request.RequestInfo{APIVersion: "v1", Resource: resource})
			if _, err := storage.(rest.Creater).Create(ctx, internal, rest.ValidateAllObjectFunc, &metav1.CreateOptions{}); err != nil {
				t.Fatalf("create %s: %v", m.GetName(), err)
			}
		}
	}
	deleter := c.resources["pods"].storage.(rest.GracefulDeleter)
	ctx := request.WithNamespace(request.NewContext(), "default")
	if _, _, err := deleter.Delete(ctx, "rich", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"configmaps", "namespaces", "pods", "pods?limit=1", "events", "pods?fieldSelector=status.phase%3DPending"} {
		for _, accept := range []string{asJSON, asProtobuf} {
			compare(t, server, oracle, fmt.Sprint("/api/v1/", path), map[string]string{"Accept": accept}, true)
		}
	}
	compare(t, server, oracle, "/api/v1/namespaces/default/pods/rich", map[string]string{"Accept": asJSON}, true)
}
