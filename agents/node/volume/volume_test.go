package volume

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/utils/ptr"
)

// api is what pods refer to.
type api struct {
	mu         sync.Mutex
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
	token      string
	hang       bool // until ctx ends
	asked      int
}

func (a *api) ConfigMap(ctx context.Context, _, name string) (*corev1.ConfigMap, error) {
	a.mu.Lock()
	hang := a.hang
	a.asked++
	found := a.configMaps[name]
	a.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if found == nil {
		return nil, apierrors.NewNotFound(core.Resource("configmap"), name)
	}
	return found, nil
}

func (a *api) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if found := a.secrets[name]; found != nil {
		return found, nil
	}
	return nil, apierrors.NewNotFound(core.Resource("secret"), name)
}

func (a *api) Token(context.Context, *corev1.Pod, *corev1.ServiceAccountTokenProjection) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.token, nil
}

func (a *api) TrustAnchors(context.Context, *corev1.ClusterTrustBundleProjection) ([]byte, error) {
	return []byte("anchors"), nil
}

func (a *api) set(name string, data map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.configMaps[name] = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
}

func newAPI() *api {
	return &api{
		token: "token",
		configMaps: map[string]*corev1.ConfigMap{
			"settings": {Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"raw": {0, 1, 2}}},
		},
		secrets: map[string]*corev1.Secret{"keys": {Data: map[string][]byte{"password": []byte("hidden"), "user": []byte("me")}}},
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts, so it must be root")
	}
}

// open returns a manager on a directory, whose mounts go with the test.
func open(t testing.TB, root string, change func(*Config)) *Manager {
	t.Helper()
	c := Config{
		Root: root, Objects: newAPI(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Allocatable: func() corev1.ResourceList {
			return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourceCPU: resource.MustParse("2")}
		},
	}
	if change != nil {
		change(&c)
	}
	m, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.unmountAll(context.Background(), m.pods); err != nil {
			t.Error(err)
		}
	})
	return m
}

// both runs a test with openat2 and without.
func both(t *testing.T, test func(t *testing.T, m *Manager)) {
	t.Helper()
	needRoot(t)
	for name, openat2 := range map[string]bool{"openat2": true, "steps": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t, t.TempDir(), nil)
			if openat2 && !m.files.openat2 {
				t.Skip("the kernel has no openat2")
			}
			m.files.openat2 = openat2
			test(t, m)
		})
	}
}

// newPod returns a pod with one container, which mounts each volume at /<its name>.
func newPod(volumes ...corev1.Volume) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "11111111-2222-3333-4444-555555555555", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Volumes: volumes, Containers: []corev1.Container{{Name: "main"}}},
	}
	for _, v := range volumes {
		mount := corev1.VolumeMount{Name: v.Name, MountPath: "/" + v.Name}
		pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, mount)
	}
	return pod
}

func emptyDirVolume(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

func configMapVolume(name, of string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: of}, DefaultMode: ptr.To[int32](0o644),
	}}}
}

func secretVolume(name, of string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: of, DefaultMode: ptr.To[int32](0o400),
	}}}
}

func setUp(t testing.TB, m *Manager, pod *corev1.Pod) {
	t.Helper()
	if err := m.Setup(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

// paths are where the containers' mounts come from.
func paths(t testing.TB, m *Manager, pod *corev1.Pod) []string {
	t.Helper()
	mounts, err := m.Mounts(t.Context(), pod, &pod.Spec.Containers[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	var at []string
	for _, m := range mounts {
		at = append(at, m.HostPath)
	}
	return at
}

func read(t testing.TB, elements ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t testing.TB, text string, elements ...string) {
	t.Helper()
	at := filepath.Join(elements...)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, to string, elements ...string) {
	t.Helper()
	if err := os.Symlink(to, filepath.Join(elements...)); err != nil {
		t.Fatal(err)
	}
}

func gone(t testing.TB, elements ...string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(elements...)); !os.IsNotExist(err) {
		t.Errorf("%s is there: %v", filepath.Join(elements...), err)
	}
}

// tree are all paths below a directory.
func tree(t testing.TB, directory string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(directory, func(at string, _ fs.DirEntry, err error) error {
		if at != directory && err == nil {
			all = append(all, at[len(directory)+1:])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const uid = types.UID("11111111-2222-3333-4444-555555555555")
