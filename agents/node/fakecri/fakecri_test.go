package fakecri_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	criclient "k8s.io/cri-client/pkg"
	utilexec "k8s.io/utils/exec"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
)

func client(t *testing.T, r *fakecri.Runtime) internalapi.RuntimeService {
	t.Helper()
	c, err := criclient.NewRemoteRuntimeService(t.Context(), r.Endpoint(), 10*time.Second, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

func sandboxConfig(logs string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: "1"}, LogDirectory: logs,
		Labels: map[string]string{"io.kubernetes.pod.uid": "1"},
		Linux: &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
		}},
	}
}

func containerConfig(name string) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: "busybox", UserSpecifiedImage: "busybox"}, LogPath: name + "/0.log",
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
		}},
	}
}

// begin makes a pod with one container, and starts it.
func begin(t *testing.T, r *fakecri.Runtime, c internalapi.RuntimeService, logs, name string) (sandbox, container string) {
	t.Helper()
	r.AddImages("busybox")
	pod := sandboxConfig(logs)
	sandbox, err := c.RunPodSandbox(t.Context(), pod, "")
	if err != nil {
		t.Fatal(err)
	}
	container, err = c.CreateContainer(t.Context(), sandbox, containerConfig(name), pod)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	return sandbox, container
}

func exited(t *testing.T, c internalapi.RuntimeService, id string) *runtimeapi.ContainerStatus {
	t.Helper()
	for {
		resp, err := c.ContainerStatus(t.Context(), id, false)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Status.State == runtimeapi.ContainerState_CONTAINER_EXITED {
			return resp.Status
		}
		time.Sleep(time.Millisecond)
	}
}

func TestLives(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		life   fakecri.Life
		grace  int64 // of a stop; negative: it ends by itself
		code   int32
		reason string
	}{
		{name: "done", life: fakecri.Life{Runs: fakecri.AtOnce}, grace: -1, reason: "Completed"},
		{name: "failed", life: fakecri.Life{Runs: time.Millisecond, ExitCode: 3}, grace: -1, code: 3, reason: "Error"},
		{name: "memory", life: fakecri.Life{Runs: time.Millisecond, OOM: true}, grace: -1, code: 137, reason: "OOMKilled"},
		{name: "asked", grace: 30, code: 143, reason: "Error"},
		{name: "graceful", life: fakecri.Life{StopCode: 7}, grace: 30, code: 7, reason: "Error"},
		{name: "killed", grace: 0, code: 137, reason: "Error"},
		{name: "stubborn", life: fakecri.Life{IgnoresTerm: true}, grace: 1, code: 137, reason: "Error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := fakecri.Start(t, fakecri.Containerd())
			c := client(t, r)
			r.Script("main", tc.life)
			_, id := begin(t, r, c, "", "main")
			if tc.grace >= 0 {
				if err := c.StopContainer(t.Context(), id, tc.grace); err != nil {
					t.Fatal(err)
				}
			}
			got := exited(t, c, id)
			if got.ExitCode != tc.code || got.Reason != tc.reason || got.FinishedAt < got.StartedAt {
				t.Errorf("it ended with %d %s (%d to %d), want %d %s", got.ExitCode, got.Reason, got.StartedAt, got.FinishedAt, tc.code, tc.reason)
			}
		})
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	for profile, zone := range map[*fakecri.Profile]string{ptr(fakecri.Containerd()): "Z", ptr(fakecri.CRIO()): "+00:00"} {
		r := fakecri.Start(t, *profile)
		c := client(t, r)
		logs := t.TempDir()
		r.Script("main", fakecri.Life{Output: []string{"hello"}, Errors: []string{"oh"}})
		_, id := begin(t, r, c, logs, "main")
		path := filepath.Join(logs, "main/0.log")
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		if err := c.ReopenContainerLog(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		r.Write(id, "stdout", "later")
		for file, want := range map[string][]string{path + ".1": {zone + " stdout F hello", zone + " stderr F oh"}, path: {zone + " stdout F later"}} {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(data)), "\n")
			for i, end := range want {
				if i >= len(lines) || !strings.HasSuffix(lines[i], end) {
					t.Errorf("%s holds %q, want lines that end in %q", file, lines, want)
				}
			}
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestRestart(t *testing.T) {
	t.Parallel()
	r := fakecri.Start(t, fakecri.Containerd())
	c := client(t, r)
	_, id := begin(t, r, c, "", "main")
	r.Stop()
	if _, err := c.ListContainers(t.Context(), nil); status.Code(err) != codes.Unavailable {
		t.Fatalf("while it is stopped: %v, want code Unavailable", err)
	}
	r.Start()
	for {
		if all, err := c.ListContainers(t.Context(), nil); err == nil {
			if len(all) != 1 || all[0].Id != id || all[0].State != runtimeapi.ContainerState_CONTAINER_RUNNING {
				t.Fatalf("after a restart: %v, want the container, running", all)
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	r := fakecri.Start(t, fakecri.Containerd())
	c := client(t, r)
	ctx := t.Context()
	r.Fail(fakecri.Fault{Method: "RunPodSandbox", Err: errors.New("boom"), Times: 1})
	if _, err := c.RunPodSandbox(ctx, sandboxConfig(""), ""); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("first call: %v, want boom", err)
	}
	r.Fail(fakecri.Fault{Method: "RunPodSandbox", Err: errors.New("lost"), After: true, Times: 1})
	if _, err := c.RunPodSandbox(ctx, sandboxConfig(""), ""); err == nil || len(r.Sandboxes()) != 1 {
		t.Errorf("second call: %v and %d sandboxes, want an error and one", err, len(r.Sandboxes()))
	}
	if _, err := c.RunPodSandbox(ctx, sandboxConfig(""), ""); err == nil || !strings.Contains(err.Error(), "is reserved for") {
		t.Errorf("third call: %v, want that there is one", err)
	}
	heal := r.Fail(fakecri.Fault{Hang: true})
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := c.ListContainers(short, nil); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("while it hangs: %v, want code DeadlineExceeded", err)
	}
	heal()
	if _, err := c.ListContainers(ctx, nil); err != nil {
		t.Error(err)
	}
	r.Without("ListContainers")
	if _, err := c.ListContainers(ctx, nil); status.Code(err) != codes.Unimplemented {
		t.Errorf("without the method: %v, want code Unimplemented", err)
	}
	if got := len(r.Calls("RunPodSandbox")); got != 3 {
		t.Errorf("%d calls of RunPodSandbox were noted, want 3", got)
	}
}

// TestStrictPID: a container's namespaces have to be said, or CRI-O refuses what containerd forgives.
func TestStrictPID(t *testing.T) {
	t.Parallel()
	for profile, refused := range map[*fakecri.Profile]bool{ptr(fakecri.Containerd()): false, ptr(fakecri.CRIO()): true} {
		r := fakecri.Start(t, *profile)
		c := client(t, r)
		r.AddImages("busybox")
		id, err := c.RunPodSandbox(t.Context(), sandboxConfig(""), "")
		if err != nil {
			t.Fatal(err)
		}
		config := containerConfig("main")
		config.Linux.SecurityContext.NamespaceOptions = nil
		if _, err := c.CreateContainer(t.Context(), id, config, sandboxConfig("")); (err != nil) != refused {
			t.Errorf("%s: %v, want an error: %v", profile.Name, err, refused)
		}
		if got := len(r.Leftovers()) > 0; got != refused { // the same one leaves cgroups
			t.Errorf("%s left a cgroup: %v, want %v", profile.Name, got, refused)
		}
	}
}

func TestPull(t *testing.T) {
	t.Parallel()
	for profile, sameAsID := range map[*fakecri.Profile]bool{ptr(fakecri.Containerd()): true, ptr(fakecri.CRIO()): false} {
		r := fakecri.Start(t, *profile)
		c, err := criclient.NewRemoteImageService(t.Context(), r.Endpoint(), 10*time.Second, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		r.OfferImages("nginx:1.15")
		r.Offer(fakecri.Offer{Image: fakecri.Image("private:1"), Auth: func(a *runtimeapi.AuthConfig) error {
			if a.GetPassword() != "secret" {
				return errors.New("401 Unauthorized")
			}
			return nil
		}})
		pull := func(name string, auth *runtimeapi.AuthConfig) (string, error) {
			return c.PullImage(t.Context(), &runtimeapi.ImageSpec{Image: name}, auth, nil)
		}
		ref, err := pull("nginx:1.15", nil)
		if err != nil {
			t.Fatal(err)
		}
		image, err := c.ImageStatus(t.Context(), &runtimeapi.ImageSpec{Image: ref}, false)
		if err != nil || (image.GetImage().GetId() == ref) != sameAsID {
			t.Errorf("%s: it is %v (%v) by the answer %s, want this to be the id: %v", profile.Name, image, err, ref, sameAsID)
		}
		if _, err := pull("nothing:1", nil); status.Code(err) != codes.NotFound {
			t.Errorf("what does not exist: %v, want NotFound", err)
		}
		if _, err := pull("private:1", nil); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("without a password: %v, want 401", err)
		}
		if _, err := pull("private:1", &runtimeapi.AuthConfig{Password: "secret"}); err != nil {
			t.Error(err)
		}
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	r := fakecri.Start(t, fakecri.Containerd())
	c := client(t, r)
	r.Script("main", fakecri.Life{Exec: func(ctx context.Context, p *fakecri.Process) (int32, error) {
		switch p.Cmd[0] {
		case "sleep":
			<-ctx.Done()
			return 0, ctx.Err()
		case "cat":
			_, err := io.Copy(p.Stdout, p.Stdin)
			return 0, err
		}
		_, _ = fmt.Fprint(p.Stdout, strings.Join(p.Cmd[1:], " "))
		return 3, nil
	}})
	_, id := begin(t, r, c, "", "main")
	out, _, err := c.ExecSync(t.Context(), id, []string{"echo", "a", "b"}, 0)
	var code utilexec.CodeExitError
	if string(out) != "a b" || !errors.As(err, &code) || code.Code != 3 {
		t.Errorf("echo: %q, %v, want a b and exit code 3", out, err)
	}
	if _, _, err := c.ExecSync(t.Context(), id, []string{"sleep"}, time.Second); !errors.Is(err, criclient.ErrCommandTimedOut) {
		t.Errorf("sleep: %v, want that it timed out", err)
	}
	resp, err := c.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"cat"}, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(resp.Url)
	if err != nil {
		t.Fatal(err)
	}
	e, err := remotecommand.NewSPDYExecutor(&rest.Config{Host: at.Host}, "POST", at)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &stdout, Stderr: &stderr}); err != nil {
		t.Fatal(err)
	}
	if stdout.String() != "hello" {
		t.Errorf("cat wrote %q, want hello", stdout.String())
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		profile fakecri.Profile
		want    codes.Code // of the stream's end; OK: it goes on
	}{{fakecri.Containerd(), codes.OK}, {fakecri.CRIO(), codes.Unknown}, {fakecri.OldContainerd(), codes.Unimplemented}} {
		r := fakecri.Start(t, tc.profile)
		c := client(t, r)
		events, ended := make(chan *runtimeapi.ContainerEventResponse, 100), make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { ended <- c.GetContainerEvents(ctx, events, nil) }()
		if tc.want != codes.OK {
			if err := <-ended; status.Code(err) != tc.want {
				t.Errorf("%s %s: events ended with %v, want code %s", tc.profile.Name, tc.profile.Version, err, tc.want)
			}
			continue
		}
		for r.Watchers() == 0 {
			time.Sleep(time.Millisecond)
		}
		_, id := begin(t, r, c, "", "main")
		if err := c.StopContainer(t.Context(), id, 1); err != nil {
			t.Fatal(err)
		}
		if err := c.RemoveContainer(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		for want := range 6 { // of the sandbox two, of the container four
			e := <-events
			kind := runtimeapi.ContainerEventType(want - 2)
			if want < 2 {
				kind = runtimeapi.ContainerEventType(want)
			}
			if e.ContainerEventType != kind || e.GetPodSandboxStatus().GetMetadata().GetUid() != "1" {
				t.Errorf("event %d is %v, want %s of pod 1", want, e, kind)
			}
		}
	}
}
