package noderuntime

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/wait"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pod is what a sandbox is asked for with.
func pod(name string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name},
		Hostname:     name,
		LogDirectory: "/var/log/pods/" + name,
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    "/kubepods/" + name,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}},
		},
	}
}

// container runs a shell's commands in a sandbox.
func container(t *testing.T, service internalapi.RuntimeService, sandbox string, config *runtimeapi.PodSandboxConfig, script string) string {
	t.Helper()
	return containerOf(t, service, sandbox, config, BusyboxImage, []string{"sh", "-c", script})
}

func containerOf(t *testing.T, service internalapi.RuntimeService, sandbox string, config *runtimeapi.PodSandboxConfig, image string, command []string) string {
	t.Helper()
	id, err := service.CreateContainer(t.Context(), sandbox, &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "c"},
		Image:    &runtimeapi.ImageSpec{Image: image, UserSpecifiedImage: image},
		Command:  command,
		LogPath:  "c.log",
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			NamespaceOptions: config.Linux.SecurityContext.NamespaceOptions,
		}},
	}, config)
	if err == nil {
		err = service.StartContainer(t.Context(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func eventually(t *testing.T, what string, f func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, f); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// serve runs a sandbox with a server in it and returns its address.
func serve(t *testing.T, service internalapi.RuntimeService, name string) (sandbox, address string) {
	t.Helper()
	config := pod(name)
	sandbox, err := service.RunPodSandbox(t.Context(), config, "")
	if err != nil {
		t.Fatal(err)
	}
	container(t, service, sandbox, config, "mkdir /www; echo I am $(hostname) > /www/index.html; exec httpd -f -h /www -p 8080")
	status, err := service.PodSandboxStatus(t.Context(), sandbox, false)
	if err != nil {
		t.Fatal(err)
	}
	return sandbox, status.Status.Network.Ip
}

// TestMachine takes a pod through its life on a machine, and the runtime through a restart under it.
func TestMachine(t *testing.T) {
	fabric := NewFabric(t)
	fabric.Registry.Add(t, Pause(t))
	fabric.Registry.Add(t, Busybox(t))
	m := fabric.NewMachine(t, "one")
	m.Runtime(t, Chosen(t))
	m.Bridge(t, "10.244.1.0/24")
	service, images := m.CRI(t)
	if _, err := images.PullImage(t.Context(), &runtimeapi.ImageSpec{Image: "registry.k8s.io/nothing:1"}, nil, nil); err == nil {
		t.Error("an image that is not there was pulled")
	}
	if _, err := images.PullImage(t.Context(), &runtimeapi.ImageSpec{Image: BusyboxImage}, nil, nil); err != nil {
		t.Fatal(err)
	}
	config := pod("web")
	sandbox, err := service.RunPodSandbox(t.Context(), config, "")
	if err != nil {
		t.Fatal(err)
	}
	id := container(t, service, sandbox, config, `echo hello from $(hostname); trap "exit 7" TERM; while :; do sleep 0.1; done`)
	out, _, err := service.ExecSync(t.Context(), id, []string{"sh", "-c", "echo $((6*7)) $$"}, time.Minute)
	if err != nil || !strings.HasPrefix(string(out), "42 ") {
		t.Errorf("exec said %q, %v", out, err)
	}
	log := filepath.Join(m.Path(config.LogDirectory), "c.log")
	eventually(t, "the log", func(context.Context) (bool, error) {
		data, err := os.ReadFile(log)
		return bytes.Contains(data, []byte("stdout F hello from web")), ignoreMissing(err)
	})
	m.StopRuntime(t, syscall.SIGKILL)
	m.StartRuntime(t)
	eventually(t, "the container after a restart of the runtime", func(ctx context.Context) (bool, error) {
		status, err := service.ContainerStatus(ctx, id, false)
		return err == nil && status.Status.State == runtimeapi.ContainerState_CONTAINER_RUNNING, nil
	})
	if err := service.StopContainer(t.Context(), id, 30); err != nil {
		t.Fatal(err)
	}
	status, err := service.ContainerStatus(t.Context(), id, false)
	if err != nil || status.Status.ExitCode != 7 {
		t.Errorf("the container's exit code is %d, %v", status.GetStatus().GetExitCode(), err)
	}
	if err := service.StopPodSandbox(t.Context(), sandbox); err != nil {
		t.Error(err)
	}
	if err := service.RemovePodSandbox(t.Context(), sandbox); err != nil {
		t.Error(err)
	}
	if got := fabric.Registry.Pulls(BusyboxImage); got != 1 && Chosen(t) != CRIO { // which fetches the manifest twice
		t.Errorf("the image was pulled %d times", got)
	}
}

// says waits until a server that a machine reaches answers so.
func says(t *testing.T, m *Machine, url, want string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return m.Dial(ctx, address) },
		DisableKeepAlives: true,
	}}
	eventually(t, url+" says "+want, func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return false, nil // not yet
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body) == want, err
	})
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// TestNothingLeft looks for what a test leaves behind that ends with pods running.
func TestNothingLeft(t *testing.T) {
	Require(t)
	t.Run("pods", func(t *testing.T) {
		fabric := NewFabric(t)
		fabric.Registry.Add(t, Pause(t))
		fabric.Registry.Add(t, Busybox(t))
		for i, name := range []string{"one", "two"} {
			m := fabric.NewMachine(t, name)
			m.Runtime(t, Chosen(t))
			m.Bridge(t, fmt.Sprintf("10.244.%d.0/24", i+1))
			service, images := m.CRI(t)
			if _, err := images.PullImage(t.Context(), &runtimeapi.ImageSpec{Image: BusyboxImage}, nil, nil); err != nil {
				t.Fatal(err)
			}
			_, address := serve(t, service, "web-"+name)
			says(t, m, "http://"+address+":8080/", "I am web-"+name+"\n")
		}
	})
	if left := leftovers(t); len(left) > 0 {
		t.Errorf("left: %s", cmp.Diff([]string(nil), left))
	}
}

// leftovers are cgroups of this process' machines, and mounts that came out of them.
func leftovers(t *testing.T) []string {
	t.Helper()
	mine := fmt.Sprintf("%s%d-", cgroupPrefix, os.Getpid())
	var left []string
	all, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		names, _ := filepath.Glob(filepath.Join(h.dir, mine+"*"))
		left = append(left, names...)
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer mounts.Close()
	lines := bufio.NewScanner(mounts)
	for lines.Scan() {
		if strings.Contains(lines.Text(), strings.ReplaceAll(t.Name(), "/", "")) {
			left = append(left, lines.Text())
		}
	}
	return left
}
