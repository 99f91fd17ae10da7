package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
)

// agent runs one on a fake runtime and a fake API.
type agent struct {
	t       *testing.T
	runtime *fakecri.Runtime
	client  *fake.Clientset
	cfg     Config
	stop    func()
}

func start(t *testing.T, pods ...*corev1.Pod) *agent {
	t.Helper()
	return startOn(t, fakecri.Containerd(), pods...)
}

func startOn(t *testing.T, profile fakecri.Profile, pods ...*corev1.Pod) *agent {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("pods' cgroups and mounts are root's to make")
	}
	a := &agent{t: t, runtime: fakecri.Start(t, profile), client: fake.NewClientset()}
	dir := t.TempDir()
	a.cfg = Config{
		Name: "n1", Version: "v1.36.3", DataDir: filepath.Join(dir, "data"), PodLogs: filepath.Join(dir, "pods"), ContainerLogs: filepath.Join(dir, "containers"),
		Cgroups: true, StaticPods: filepath.Join(dir, "static"), Runtime: a.runtime.Endpoint(), CgroupRoot: fmt.Sprintf("/rowlock-test-%d", os.Getpid()),
		API: &rest.Config{}, Log: slog.New(slog.NewTextHandler(output(t), nil)), clients: func() kubernetes.Interface { return a.client },
	}
	if err := os.MkdirAll(a.cfg.StaticPods, 0o755); err != nil {
		t.Fatal(err)
	}
	a.runtime.AddImages("busybox")
	for _, p := range pods { // the fake API forgets what is made between a list and a watch
		if err := a.client.Tracker().Add(p); err != nil {
			t.Fatal(err)
		}
	}
	a.run()
	t.Cleanup(func() { a.stop(); removeCgroups(a.cfg.CgroupRoot) })
	return a
}

func output(t *testing.T) io.Writer {
	if testing.Verbose() {
		return t.Output()
	}
	return io.Discard
}

func (a *agent) run() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := Run(ctx, a.cfg); err != nil {
			a.t.Error(err)
		}
	}()
	a.stop = func() { cancel(); <-done }
}

// removeCgroups removes what a test made, from the leaves up.
func removeCgroups(root string) {
	mounts, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, mount := range append(mounts, "/sys/fs/cgroup") {
		var all []string
		_ = filepath.WalkDir(filepath.Join(mount, root), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		slices.Reverse(all)
		for _, path := range all {
			_ = os.Remove(path)
		}
	}
}

// until waits for what is sure to come.
func (a *agent) until(what string, ok func() bool) {
	a.t.Helper()
	for range 600 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	a.t.Fatalf("waited in vain: %s", what)
}

func (a *agent) pod(name string) *corev1.Pod {
	pod, err := a.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return pod
}

func pod(name string) *corev1.Pod {
	grace := int64(5)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Generation: 1, ResourceVersion: "1"},
		Spec: corev1.PodSpec{
			NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace, DNSPolicy: corev1.DNSDefault, EnableServiceLinks: new(bool),
			Containers: []corev1.Container{{
				Name: "c", Image: "busybox", ImagePullPolicy: corev1.PullIfNotPresent, TerminationMessagePath: "/dev/termination-log",
				TerminationMessagePolicy: corev1.TerminationMessageReadFile,
				VolumeMounts:             []corev1.VolumeMount{{Name: "v", MountPath: "/v"}},
			}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort},
	}
}

// TestAgent has the real parts run a pod from its creation to its end, and takes over from an agent before it, whatever the runtime.
func TestAgent(t *testing.T) {
	for _, profile := range []fakecri.Profile{fakecri.Containerd(), fakecri.CRIO(), fakecri.OldContainerd()} {
		t.Run(profile.Name+" "+profile.Version, func(t *testing.T) { runsPods(t, profile) })
	}
}

func runsPods(t *testing.T, profile fakecri.Profile) {
	a := startOn(t, profile, pod("a"))
	ctx := t.Context()
	a.until("a node that is ready", func() bool {
		node, err := a.client.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
		return err == nil && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
	})
	running := func() bool { p := a.pod("a"); return p != nil && p.Status.Phase == corev1.PodRunning }
	a.until("a pod that runs", running)
	if got := a.pod("a").Status; got.PodIP == "" || got.HostIP == "" || got.ContainerStatuses[0].State.Running == nil {
		t.Errorf("status: %+v", got)
	}
	c := a.runtime.Container("c")
	config := a.runtime.ContainerConfig(c.Id)
	paths := map[string]string{}
	for _, m := range config.Mounts {
		paths[m.ContainerPath] = m.HostPath
	}
	for _, path := range []string{"/v", "/etc/hosts", "/dev/termination-log"} {
		if _, err := os.Stat(paths[path]); err != nil {
			t.Errorf("mount of %s: %v", path, err)
		}
	}
	a.stop()
	a.runtime.ForgetCalls()
	a.run()
	time.Sleep(3 * time.Second)
	if calls := a.runtime.Calls("RunPodSandbox", "CreateContainer", "StopContainer", "StopPodSandbox"); len(calls) > 0 {
		t.Errorf("the next agent disturbed what runs: %v", calls)
	}

	a.runtime.Exit(c.Id, 1, "Error")
	a.until("a restart", func() bool {
		p := a.pod("a")
		return p.Status.ContainerStatuses[0].RestartCount == 1 && p.Status.ContainerStatuses[0].State.Running != nil
	})

	gone := a.pod("a").DeepCopy()
	now, grace := metav1.Now(), int64(5)
	gone.DeletionTimestamp, gone.DeletionGracePeriodSeconds = &now, &grace
	if err := a.client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("pods"), gone, "default"); err != nil {
		t.Fatal(err)
	}
	a.until("the pod's end", func() bool { return a.pod("a") == nil })
	a.until("nothing left of the pod", func() bool {
		_, err := os.Stat(filepath.Join(a.cfg.DataDir, "pods", "uid-a"))
		return os.IsNotExist(err) && len(a.runtime.Sandboxes()) == 0
	})
}

// TestFailedStart: a container that cannot be started is tried again after a while, also where it leaves nothing that has ended.
func TestFailedStart(t *testing.T) {
	for _, profile := range []fakecri.Profile{fakecri.Containerd(), fakecri.CRIO()} {
		t.Run(profile.Name, func(t *testing.T) {
			a := startOn(t, profile)
			a.stop()
			a.runtime.Script("c", fakecri.Life{Start: errors.New("no such program")})
			if err := a.client.Tracker().Add(pod("a")); err != nil {
				t.Fatal(err)
			}
			a.run()
			a.until("a container that waits", func() bool {
				s := a.pod("a").Status.ContainerStatuses
				return len(s) == 1 && s[0].State.Waiting != nil && slices.Contains([]string{"RunContainerError", "CrashLoopBackOff"}, s[0].State.Waiting.Reason)
			})
			time.Sleep(3 * time.Second)
			if calls := a.runtime.Calls("CreateContainer"); len(calls) > 4 {
				t.Errorf("it was tried %d times in some seconds", len(calls))
			}
		})
	}
}

// TestPortTaken: where another agent has the port, pods are its.
func TestPortTaken(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's
	r := fakecri.Start(t, fakecri.Containerd())
	dir := t.TempDir()
	err = Run(t.Context(), Config{
		Name: "n1", DataDir: dir, PodLogs: filepath.Join(dir, "pods"), ContainerLogs: filepath.Join(dir, "containers"), Runtime: r.Endpoint(),
		Port: int32(l.Addr().(*net.TCPAddr).Port), API: &rest.Config{}, Log: slog.New(slog.DiscardHandler),
		clients: func() kubernetes.Interface { return fake.NewClientset() },
		Serving: func(context.Context, kubernetes.Interface, func() []corev1.NodeAddress) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
			return nil, nil
		},
		Authority: func() (*x509.CertPool, error) { return x509.NewCertPool(), nil },
	})
	if err == nil || !strings.Contains(err.Error(), "a kubelet, may run on this machine") || len(r.Calls()) > 0 {
		t.Errorf("%v, after the calls %v", err, r.Calls())
	}
}

// TestStatic: a file's pod runs and has a mirror, which goes with it.
func TestStatic(t *testing.T) {
	a := start(t)
	manifest := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s"}, "spec": {"containers": [{"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent"}], "terminationGracePeriodSeconds": 1}}`
	path := filepath.Join(a.cfg.StaticPods, "s.json")
	if err := os.WriteFile(path, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	a.until("a mirror that runs", func() bool { p := a.pod("s-n1"); return p != nil && p.Status.Phase == corev1.PodRunning })
	mirror := a.pod("s-n1")
	if mirror.Annotations[corev1.MirrorPodAnnotationKey] == "" || len(mirror.OwnerReferences) != 1 {
		t.Errorf("mirror: %+v", mirror.ObjectMeta)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	a.until("its end", func() bool { return a.pod("s-n1") == nil && len(a.runtime.Sandboxes()) == 0 })
}

// TestRejected: a pod that the node has no room for fails with upstream's reason.
func TestRejected(t *testing.T) {
	p := pod("big")
	p.Spec.NodeSelector = map[string]string{"no": "such"}
	a := start(t, p)
	a.until("its failure", func() bool { return a.pod("big").Status.Phase == corev1.PodFailed })
	got := a.pod("big").Status
	if got.Reason != "NodeAffinity" || !strings.HasPrefix(got.Message, "Pod was rejected: Predicate NodeAffinity failed") {
		t.Errorf("status: %+v", got)
	}
}
