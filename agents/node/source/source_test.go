package source

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
)

// hands write down what they are given.
type hands struct {
	calls    []string
	active   map[types.UID]*corev1.Pod
	rejected map[types.UID]string
	pending  map[types.UID]string
}

func (h *hands) Set(pod *corev1.Pod) {
	h.calls = append(h.calls, "set "+pod.Name)
	h.active[pod.UID] = pod
}

func (h *hands) Gone(uid types.UID) {
	h.calls = append(h.calls, "gone "+string(uid))
	delete(h.active, uid)
}
func (h *hands) Synced()               { h.calls = append(h.calls, "synced") }
func (h *hands) Ending(types.UID) bool { return false }
func (h *hands) Active() (pods []*corev1.Pod) {
	for _, pod := range h.active {
		pods = append(pods, pod)
	}
	return pods
}
func (h *hands) Changed(types.UID) {}
func (h *hands) Reject(pod *corev1.Pod, reason, message string) {
	h.rejected[pod.UID] = reason + ": " + message
}

func (h *hands) ResizePending(uid types.UID, reason, _ string, _ int64) bool {
	h.pending[uid] = reason
	return true
}
func (h *hands) ResizeAllotted(uid types.UID) { delete(h.pending, uid) }

// newSource has a node with two CPUs and its rules.
func newSource(t *testing.T, running ...types.UID) (*Source, *hands) {
	t.Helper()
	h := &hands{active: map[types.UID]*corev1.Pod{}, rejected: map[types.UID]string{}, pending: map[types.UID]string{}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"disk": "ssd"}}}
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("3")}
	admit, err := Admission(Rules{
		Node:   func(context.Context, bool) (*corev1.Node, error) { return node, nil },
		Active: h.Active, Events: &record.FakeRecorder{},
		Kill: func(*corev1.Pod, bool, *int64, func(*corev1.PodStatus)) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{
		Node: "n1", Checkpoint: filepath.Join(t.TempDir(), "shares"), Admit: admit, Client: fake.NewClientset(), Events: &record.FakeRecorder{},
		Running: func(uid types.UID) bool { return slices.Contains(running, uid) }, Log: slog.New(slog.DiscardHandler),
	})
	s.workers, s.statuses = h, h
	if s.shares, err = readShares(s.Checkpoint); err != nil {
		t.Fatal(err)
	}
	return s, h
}

func bound(name, cpu string, change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu)}}}}
	if change != nil {
		change(pod)
	}
	return pod
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	for want, pod := range map[string]*corev1.Pod{
		"OutOfcpu: Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000": bound("p", "1500m", nil),
		"OutOfmemory: Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824": bound("p", "1m", func(pod *corev1.Pod) {
			pod.Spec.Containers[0].Resources.Requests["memory"] = resource.MustParse("2Gi")
		}),
		"NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector": bound("p", "1m", func(pod *corev1.Pod) {
			pod.Spec.NodeSelector = map[string]string{"disk": "hdd"}
		}),
		"PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS": bound("p", "1m", func(pod *corev1.Pod) {
			pod.Spec.OS = &corev1.PodOS{Name: corev1.Windows}
		}),
		"SysctlForbidden: forbidden sysctl: \"kernel.msgmax\" not allowlisted": bound("p", "1m", func(pod *corev1.Pod) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel.msgmax", Value: "1"}}}
		}),
		"": bound("p", "1", func(pod *corev1.Pod) { pod.Spec.NodeSelector = map[string]string{"disk": "ssd"} }),
	} {
		t.Run(strings.SplitN(want, ":", 2)[0], func(t *testing.T) {
			t.Parallel()
			s, h := newSource(t)
			if err := (store{s}).Replace([]any{bound("first", "1", nil), pod}, ""); err != nil {
				t.Fatal(err)
			}
			if got := h.rejected["p"]; got != want {
				t.Errorf("rejected: %q, want %q", got, want)
			}
			if h.active["first"] == nil || (h.active["p"] == nil) != (want != "") {
				t.Errorf("handed on: %v", h.calls)
			}
		})
	}
}

// TestRunning: what runs stays, though there would be no room for it now, and what waits comes after it.
func TestRunning(t *testing.T) {
	t.Parallel()
	s, h := newSource(t, "big")
	if err := (store{s}).Replace([]any{bound("new", "1", nil), bound("big", "8", nil)}, ""); err != nil {
		t.Fatal(err)
	}
	if h.active["big"] == nil || !strings.HasPrefix(h.rejected["new"], "OutOfcpu") {
		t.Errorf("handed on %v, rejected %v", h.calls, h.rejected)
	}
}

// TestForged: a pod of the API is not static because it says so.
func TestForged(t *testing.T) {
	t.Parallel()
	s, h := newSource(t)
	err := (store{s}).Add(bound("p", "1", func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{kubetypes.ConfigSourceAnnotationKey: kubetypes.FileSource}
	}))
	if err != nil || kubetypes.IsStaticPod(h.active["p"]) {
		t.Errorf("it is static: %v", err)
	}
}

// TestResize: a pod has what it was allotted until there is room, also for the next agent.
func TestResize(t *testing.T) {
	t.Parallel()
	s, h := newSource(t)
	cpu := func(uid types.UID) string {
		q := h.active[uid].Spec.Containers[0].Resources.Requests["cpu"]
		return q.String()
	}
	if err := (store{s}).Replace([]any{bound("a", "1", nil), bound("b", "500m", nil)}, ""); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ asks, has, pending string }{
		{"1200m", "1200m", ""},
		{"1800m", "1200m", corev1.PodReasonDeferred},
	} {
		if err := (store{s}).Update(bound("a", want.asks, nil)); err != nil {
			t.Fatal(err)
		}
		if cpu("a") != want.has || h.pending["a"] != want.pending {
			t.Errorf("asked for %s it has %s, pending %q", want.asks, cpu("a"), h.pending["a"])
		}
	}
	again, err := readShares(s.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if q := again.pods["a"]["c"].Requests["cpu"]; q.String() != "1200m" {
		t.Errorf("the next agent takes it that the pod was allotted %s", q.String())
	}
	if err := (store{s}).Delete(bound("b", "500m", nil)); err != nil {
		t.Fatal(err)
	}
	if cpu("a") != "1800m" || h.pending["a"] != "" {
		t.Errorf("when there is room it has %s, pending %q", cpu("a"), h.pending["a"])
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	s, h := newSource(t)
	s.Directory, s.files, s.api = t.TempDir(), false, true
	path := filepath.Join(s.Directory, "a.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.readFiles()
	}
	const good = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n"
	write(good)
	if len(h.active) != 1 || !slices.Contains(h.calls, "synced") {
		t.Fatalf("handed on: %v", h.calls)
	}
	for uid, pod := range h.active {
		if pod.Name != "a-n1" || pod.Namespace != "default" || !kubetypes.IsStaticPod(pod) || pod.Annotations[kubetypes.ConfigHashAnnotationKey] != string(uid) ||
			pod.Spec.RestartPolicy != corev1.RestartPolicyAlways || len(pod.Spec.Tolerations) != 1 {
			t.Errorf("static pod: %+v", pod)
		}
	}
	calls := len(h.calls)
	write(good)
	write("apiVersion: v1\nkind: Po")
	write("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {serviceAccountName: x, containers: [{name: c, image: i}]}\n")
	if more := h.calls[calls:]; len(more) > 0 {
		t.Errorf("for the same file, half a file and one that refers to the API: %v", more)
	}
	write(strings.Replace(good, "image: i", "image: j", 1))
	if more := h.calls[calls:]; len(more) != 2 || !strings.HasPrefix(more[0], "gone ") || more[1] != "set a-n1" {
		t.Errorf("for another pod: %v", more)
	}
}
