package observe_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubetypes "k8s.io/kubelet/pkg/types"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	"github.com/rowlock-io/rowlock/agents/node/observe"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// rig is an observer of a fake runtime.
type rig struct {
	*observe.Observer
	fake    *fakecri.Runtime
	runtime *runtime.Runtime
	changed chan types.UID
	logs    string
}

func start(t *testing.T, profile fakecri.Profile, tune func(*observe.Config)) *rig {
	t.Helper()
	r := &rig{fake: fakecri.Start(t, profile), changed: make(chan types.UID, 1000), logs: t.TempDir()}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	var err error
	if r.runtime, err = runtime.Dial(t.Context(), r.fake.Endpoint(), runtime.Options{Log: log}); err != nil {
		t.Fatal(err)
	}
	c := observe.Config{
		Runtime: r.runtime.Service(), Name: r.runtime.Name(), Log: log, Relist: 20 * time.Millisecond,
		Changed: func(id types.UID) { r.changed <- id },
	}
	if tune != nil {
		tune(&c)
	}
	r.Observer = observe.New(c)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		_ = r.runtime.Close(context.Background()) //nolint:usetesting // the test's is over
	})
	return r
}

// until waits for a report that is as wanted.
func (r *rig) until(t *testing.T, id types.UID, what string, wanted func(*cri.Report) bool) *cri.Report {
	t.Helper()
	if report := r.Report(id); report != nil && wanted(report) {
		return report
	}
	deadline := time.After(30 * time.Second)
	for {
		select {
		case <-r.changed:
			if report := r.Report(id); report != nil && wanted(report) {
				return report
			}
		case <-deadline:
			t.Fatalf("no report with %s; the last is %v", what, r.Report(id))
		}
	}
}

// pod runs one with a container, of a life.
func (r *rig) pod(t *testing.T, id types.UID, life fakecri.Life, config *runtimeapi.ContainerConfig) (sandbox, container string) {
	t.Helper()
	r.fake.AddImages("busybox")
	r.fake.Script("main", life)
	labels := map[string]string{
		kubetypes.KubernetesPodUIDLabel: string(id), kubetypes.KubernetesPodNameLabel: "web", kubetypes.KubernetesPodNamespaceLabel: "default",
		kubetypes.KubernetesContainerNameLabel: "main",
	}
	pod := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: string(id)}, Labels: labels, LogDirectory: r.logs,
	}
	if config == nil {
		config = &runtimeapi.ContainerConfig{}
	}
	config.Metadata, config.Image, config.Labels = &runtimeapi.ContainerMetadata{Name: "main"}, &runtimeapi.ImageSpec{Image: "busybox", UserSpecifiedImage: "busybox"}, labels
	s := r.runtime.Service()
	sandbox, err := s.RunPodSandbox(t.Context(), pod, "")
	if err != nil {
		t.Fatal(err)
	}
	if container, err = s.CreateContainer(t.Context(), sandbox, config, pod); err != nil {
		t.Fatal(err)
	}
	if err := s.StartContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	return sandbox, container
}

func in(state runtimeapi.ContainerState) func(*cri.Report) bool {
	return func(r *cri.Report) bool { return len(r.Containers) == 1 && r.Containers[0].State == state }
}

// profiles are runtimes that have events, that end them at once, and that know none: a list shows everything with all of them.
func profiles() map[string]fakecri.Profile {
	return map[string]fakecri.Profile{"events": fakecri.Containerd(), "end": fakecri.CRIO(), "unimplemented": fakecri.OldContainerd()}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	for name, profile := range profiles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, profile, nil)
			for r.Report("1") == nil { // the first list
				time.Sleep(time.Millisecond)
			}
			sandbox, container := r.pod(t, "1", fakecri.Life{}, nil)
			report := r.until(t, "1", "a container that runs", in(runtimeapi.ContainerState_CONTAINER_RUNNING))
			status := report.Status("1", "default", "web")
			if len(status.IPs) != 1 || len(status.ActiveContainerStatuses) != 1 || status.ContainerStatuses[0].ID.Type != profile.Name {
				t.Errorf("the status is %+v, want an address and an active container of %s", status, profile.Name)
			}
			pods, known := r.Pods()
			want := []observe.Pod{{
				UID: "1", Namespace: "default", Name: "web", Running: true, Ready: true, Sandboxes: []string{sandbox}, Containers: []string{container},
			}}
			if diff := cmp.Diff(want, pods); diff != "" || !known {
				t.Errorf("known: %v; pods:\n%s", known, diff)
			}
			r.fake.Exit(container, 3, "")
			report = r.until(t, "1", "a container that has ended", in(runtimeapi.ContainerState_CONTAINER_EXITED))
			if got := report.Containers[0]; got.ExitCode != 3 || got.Sandbox != sandbox {
				t.Errorf("it is %v in %s, want exit code 3 in %s", got.ContainerStatus, got.Sandbox, sandbox)
			}
			r.fake.KillSandbox(sandbox)
			report = r.until(t, "1", "no sandbox that runs", func(report *cri.Report) bool {
				return len(report.Sandboxes) == 1 && report.Sandboxes[0].State == runtimeapi.PodSandboxState_SANDBOX_NOTREADY
			})
			if diff := cmp.Diff(status.IPs, report.Status("1", "default", "web").IPs); diff != "" {
				t.Errorf("a pod that is over has lost its address:\n%s", diff)
			}
			if err := r.runtime.Service().RemovePodSandbox(t.Context(), sandbox); err != nil {
				t.Fatal(err)
			}
			r.until(t, "1", "nothing", func(report *cri.Report) bool { return len(report.Sandboxes)+len(report.Containers) == 0 })
			if pods, _ := r.Pods(); len(pods) != 0 {
				t.Errorf("pods are %v, want none", pods)
			}
			if err := r.Healthy(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRestart: what happens while the runtime is away is found when it is there again.
func TestRestart(t *testing.T) {
	t.Parallel()
	for name, profile := range profiles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, profile, nil)
			_, container := r.pod(t, "1", fakecri.Life{}, nil)
			r.until(t, "1", "a container that runs", in(runtimeapi.ContainerState_CONTAINER_RUNNING))
			for range 2 {
				r.fake.Stop()
				if _, err := r.Refresh(t.Context(), "1"); err == nil {
					t.Error("a runtime that is away answers")
				}
				r.fake.Start()
			}
			r.fake.Stop()
			r.fake.Exit(container, 1, "")
			if report := r.Report("1"); !in(runtimeapi.ContainerState_CONTAINER_RUNNING)(report) {
				t.Errorf("while the runtime is away the report is %v, want the last one", report)
			}
			r.fake.Start()
			r.until(t, "1", "a container that has ended", in(runtimeapi.ContainerState_CONTAINER_EXITED))
		})
	}
}

// TestEvents: while they come, changes are known at once.
func TestEvents(t *testing.T) {
	t.Parallel()
	r := start(t, fakecri.Containerd(), func(c *observe.Config) { c.Relist, c.WithEvents = time.Hour, time.Hour })
	for r.fake.Watchers() == 0 {
		time.Sleep(time.Millisecond)
	}
	for r.Report("1") == nil { // the first list
		time.Sleep(time.Millisecond)
	}
	_, container := r.pod(t, "1", fakecri.Life{}, nil)
	r.until(t, "1", "a container that runs", in(runtimeapi.ContainerState_CONTAINER_RUNNING))
	r.fake.Exit(container, 0, "")
	r.until(t, "1", "a container that has ended", in(runtimeapi.ContainerState_CONTAINER_EXITED))
	if err := r.runtime.Service().RemoveContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	r.until(t, "1", "no container", func(report *cri.Report) bool { return len(report.Containers) == 0 })
}

// TestRefresh: who asks now hears of what no list has shown yet, and others hear that there is news.
func TestRefresh(t *testing.T) {
	t.Parallel()
	r := start(t, fakecri.Containerd(), func(c *observe.Config) { c.Relist = time.Hour })
	r.fake.LoseEvents(true)
	for r.Report("1") == nil {
		time.Sleep(time.Millisecond)
	}
	r.pod(t, "1", fakecri.Life{}, nil)
	report, err := r.Refresh(t.Context(), "1")
	if err != nil || !in(runtimeapi.ContainerState_CONTAINER_RUNNING)(report) {
		t.Fatalf("%v, %v, want a container that runs", report, err)
	}
	if got := <-r.changed; got != "1" {
		t.Errorf("pod %q has changed, want 1", got)
	}
	if _, err := r.Refresh(t.Context(), "1"); err != nil {
		t.Error(err)
	}
	if report, err := r.Refresh(t.Context(), "other"); err != nil || len(report.Sandboxes) != 0 {
		t.Errorf("of a pod that is not there: %v, %v, want an empty report", report, err)
	}
	if len(r.changed) != 0 {
		t.Errorf("there is news of pod %q, want none", <-r.changed)
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", kubecontainer.MaxContainerTerminationMessageLength)
	lines := make([]string, 100)
	for i := range lines {
		lines[i] = "line"
	}
	for _, tc := range []struct {
		name   string
		policy string
		life   fakecri.Life
		path   string // in the container; "": the usual one
		file   func(t *testing.T, path string)
		want   string
	}{
		{name: "file", life: fakecri.Life{ExitCode: 1, Termination: "bye"}, want: "bye"},
		{name: "success too", life: fakecri.Life{Termination: "bye"}, want: "bye"},
		{name: "end of a long file", life: fakecri.Life{Termination: "x" + long}, want: long},
		{name: "no message", life: fakecri.Life{ExitCode: 1, Output: []string{"a log"}}},
		{name: "log", policy: "FallbackToLogsOnError", life: fakecri.Life{ExitCode: 1, Output: []string{"one", "two"}}, want: "one\ntwo\n"},
		{name: "file before log", policy: "FallbackToLogsOnError", life: fakecri.Life{ExitCode: 1, Termination: "bye", Output: []string{"one"}}, want: "bye"},
		{name: "success has no log", policy: "FallbackToLogsOnError", life: fakecri.Life{Output: []string{"one"}}},
		{
			name: "end of a long log", policy: "FallbackToLogsOnError", life: fakecri.Life{ExitCode: 1, Output: lines},
			want: strings.Repeat("line\n", kubecontainer.MaxContainerTerminationMessageLogLines),
		},
		{
			name: "end of long lines", policy: "FallbackToLogsOnError", life: fakecri.Life{ExitCode: 1, Output: []string{long}},
			want: long[:kubecontainer.MaxContainerTerminationMessageLogLength-1] + "\n",
		},
		{name: "relative", path: "tmp/message", life: fakecri.Life{Termination: "bye"}, want: ""}, // the mount is what the agent made of it
		{
			name: "unreadable", life: fakecri.Life{}, want: "Error on reading termination log",
			file: func(t *testing.T, path string) {
				if err := os.Mkdir(path, 0o755); err != nil {
					t.Fatal(err)
				}
			},
		},
		{name: "no log", policy: "FallbackToLogsOnError", life: fakecri.Life{ExitCode: 1}, want: "Error on reading termination message from logs: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, fakecri.Containerd(), nil)
			file := filepath.Join(t.TempDir(), "message")
			if tc.file != nil {
				tc.file(t, file)
			}
			if tc.path == "" {
				tc.path = "/dev/termination-log"
			}
			if tc.policy == "" {
				tc.policy = "File"
			}
			tc.life.Runs = fakecri.AtOnce
			_, id := r.pod(t, "1", tc.life, &runtimeapi.ContainerConfig{
				Mounts:  []*runtimeapi.Mount{{ContainerPath: tc.path, HostPath: file}},
				LogPath: "main.log",
				Annotations: map[string]string{
					"io.kubernetes.container.terminationMessagePath":   tc.path,
					"io.kubernetes.container.terminationMessagePolicy": tc.policy,
				},
			})
			report := r.until(t, "1", "a container that has ended", in(runtimeapi.ContainerState_CONTAINER_EXITED))
			if got := report.Messages[id]; got != tc.want && (!strings.HasPrefix(tc.want, "Error") || !strings.HasPrefix(got, tc.want)) {
				t.Errorf("the message is %q, want %q", got, tc.want)
			}
		})
	}
}
