package fieldmanager

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"

	"github.com/rowlock-io/rowlock/schema/internal/upstream"
)

// compare runs a benchmark with our field manager and with upstream's.
func compare(b *testing.B, resource string, run func(b *testing.B, e endpoint, m manager)) {
	e := sharedFixture(b).endpoint(b, resource)
	if err := sharedFixture(b).factory.Build(); err != nil {
		b.Fatal(err)
	}
	b.Run("ours", func(b *testing.B) { b.ReportAllocs(); run(b, e, e.ours) })
	b.Run("upstream", func(b *testing.B) { b.ReportAllocs(); run(b, e, e.stock) })
}

func configMap() *api.ConfigMap {
	return &api.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "settings", Namespace: "default", Labels: map[string]string{"app": "web"}},
		Data:       map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"},
	}
}

func pod(b *testing.B) *api.Pod {
	b.Helper()
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}}
	container := corev1.Container{
		Name: "web", Image: "registry.example/web:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080, Name: "http"}},
		Env:            []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}, {Name: "C", Value: "3"}},
		LivenessProbe:  probe,
		ReadinessProbe: probe,
		Resources: corev1.ResourceRequirements{
			Limits:   corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")},
			Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("128Mi")},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "config", MountPath: "/config"}},
	}
	sidecar := container
	sidecar.Name = "sidecar"
	v1 := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", Labels: map[string]string{"app": "web", "tier": "front"}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{container, sidecar},
			Volumes: []corev1.Volume{
				{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}},
			},
			Tolerations: []corev1.Toleration{{Key: "a", Operator: "Exists"}, {Key: "b", Operator: "Exists"}},
		},
	}
	legacyscheme.Scheme.Default(v1)
	out := &api.Pod{}
	if err := legacyscheme.Scheme.Convert(v1, out, nil); err != nil {
		b.Fatal(err)
	}
	return out
}

func BenchmarkConfigMapCreate(b *testing.B) {
	obj := configMap()
	compare(b, "v1 configmaps", func(b *testing.B, _ endpoint, m manager) {
		for b.Loop() {
			if _, err := m.Update(&api.ConfigMap{}, obj.DeepCopy(), "bench"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPodCreate(b *testing.B) {
	obj := pod(b)
	compare(b, "v1 pods", func(b *testing.B, _ endpoint, m manager) {
		for b.Loop() {
			if _, err := m.Update(&api.Pod{}, obj.DeepCopy(), "bench"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPodLabelPatch is what the field manager does for a merge patch of a label, after another manager created
// the pod and a third one wrote its status.
func BenchmarkPodLabelPatch(b *testing.B) {
	created := pod(b)
	compare(b, "v1 pods", func(b *testing.B, e endpoint, m manager) {
		live, err := m.Update(&api.Pod{}, created.DeepCopy(), "creator")
		if err != nil {
			b.Fatal(err)
		}
		live.(*api.Pod).UID = "uid"
		patched := live.DeepCopyObject().(*api.Pod)
		patched.Labels["patched"] = "yes"
		for b.Loop() {
			if _, err := m.Update(live, patched.DeepCopy(), "patcher"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPodLabelApply(b *testing.B) {
	created := pod(b)
	compare(b, "v1 pods", func(b *testing.B, e endpoint, m manager) {
		live, err := m.Update(&api.Pod{}, created.DeepCopy(), "creator")
		if err != nil {
			b.Fatal(err)
		}
		live.(*api.Pod).UID = "uid"
		for b.Loop() {
			config := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "v1", "kind": "Pod",
				"metadata": map[string]any{"name": "web", "namespace": "default", "labels": map[string]any{"applied": "yes"}},
			}}
			if _, err := m.Apply(live.DeepCopyObject(), config, "applier", false); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFor is what every scope costs at the start of a server.
func BenchmarkManager(b *testing.B) {
	f := sharedFixture(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.factory.Manager(corev1.SchemeGroupVersion.WithKind("Pod"), api.SchemeGroupVersion, "", nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBuild is what the first write costs.
func BenchmarkBuild(b *testing.B) {
	groups, err := upstream.Groups()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f, err := New(Config{Groups: groups})
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Build(); err != nil {
			b.Fatal(err)
		}
	}
}
