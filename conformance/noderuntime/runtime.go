package noderuntime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	criclient "k8s.io/cri-client/pkg"
)

// Socket is where a machine's runtime listens, for programs in the machine.
const Socket = "/run/containerd/containerd.sock"

// containerdConfig is what differs from the defaults. Kubernetes' own tests look for the handler test-handler.
const containerdConfig = `version = 4
imports = []
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.internal.v1.opt"]
  path = "/opt/containerd"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "` + PauseImage + `"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = %t
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    runtime_path = "/opt/bin/containerd-shim-runc-v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "/opt/bin/runc"
      SystemdCgroup = false
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.test-handler]
      runtime_type = "io.containerd.runc.v2"
      runtime_path = "/opt/bin/containerd-shim-runc-v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.test-handler.options]
        BinaryName = "/opt/bin/runc"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
`

// mirror sends runtimes to the fabric's registry, whatever registry an image's name begins with.
const mirror = `[host."http://` + Gateway + ":" + registryPort + `"]
  capabilities = ["pull", "resolve"]
`

// Containerd installs containerd with runc and the CNI plugins, and starts it. It has no network for pods yet: that is up to an
// agent, or to Bridge.
func (m *Machine) Containerd(t testing.TB) {
	t.Helper()
	for _, program := range []string{containerd(t, "containerd"), containerd(t, "containerd-shim-runc-v2"), runc(t)} {
		m.Install(t, program)
	}
	for _, program := range plugins(t) {
		m.Install(t, program, "opt/cni/bin")
	}
	m.write(t, "/etc/containerd/config.toml", fmt.Sprintf(containerdConfig, !mayRaise()))
	m.write(t, "/etc/containerd/certs.d/_default/hosts.toml", mirror)
	m.StartRuntime(t)
}

// mayRaise tells whether processes here can be made less likely to be killed for want of memory.
func mayRaise() bool {
	const sysResource = 24
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(status), "CapEff:\t")
	var effective uint64
	_, err = fmt.Sscanf(rest, "%x", &effective)
	return err == nil && effective&(1<<sysResource) != 0
}

// StartRuntime starts the runtime, at first or after it was stopped, and waits until it answers.
func (m *Machine) StartRuntime(t testing.TB) {
	t.Helper()
	m.runtime = m.Start(t, "/opt/bin/containerd", "--config", "/etc/containerd/config.toml")
	deadline := time.Now().Add(time.Minute)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		service, err := criclient.NewRemoteRuntimeService(ctx, m.Endpoint(), time.Second, nil, false)
		if err == nil {
			_, err = service.Version(ctx, "")
			_ = service.Close(ctx)
		}
		cancel()
		if err == nil {
			return
		}
		if m.runtime.Ended() || time.Now().After(deadline) {
			t.Fatalf("containerd on %s does not answer: %v\n%s", m.Name, err, m.runtime.Tail(40))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Runtime is the runtime's process.
func (m *Machine) Runtime() *Process { return m.runtime }

// StopRuntime ends the runtime by a signal. Pods run on.
func (m *Machine) StopRuntime(t testing.TB, sig syscall.Signal) {
	t.Helper()
	_ = m.runtime.Stop(sig) // "signal: killed", as asked for
}

// SignalRuntime sends the runtime a signal that does not end it.
func (m *Machine) SignalRuntime(t testing.TB, sig syscall.Signal) {
	t.Helper()
	m.runtime.Signal(t, sig)
}

// Reboot ends all that runs on the machine at once, and what is not on its disk is gone. Nothing is started.
func (m *Machine) Reboot(t testing.TB) {
	t.Helper()
	// Whoever kills all is not killed; what is left is the machine's first process, and what that waits with.
	const script = `
kill -9 -1
for try in $(seq 100); do
	[ "$(ls -d /proc/[0-9]* | wc -l)" -gt 4 ] || break
	sleep 0.1
done
awk '$2 ~ /^\/(run|var)\// {print $2}' /proc/mounts | sort -r | while read -r at; do umount -l "$at" || true; done
umount -l /run
mount -t tmpfs -o mode=755 run /run
find /sys/fs/cgroup -depth -mindepth 1 -type d -path '*kubepods*' -exec rmdir {} + 2>/dev/null || true
for link in $(ls /sys/class/net | grep '^veth'); do ip link delete "$link" || true; done
`
	m.Run(t, "sh", "-c", script)
	for _, p := range m.running {
		<-p.done
	}
}

// Endpoint is the runtime's, from outside the machine.
func (m *Machine) Endpoint() string { return "unix://" + m.Path(Socket) }

// CRI connects to the runtime from outside the machine.
func (m *Machine) CRI(t testing.TB) (internalapi.RuntimeService, internalapi.ImageManagerService) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	service, err := criclient.NewRemoteRuntimeService(ctx, m.Endpoint(), time.Minute, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	images, err := criclient.NewRemoteImageService(ctx, m.Endpoint(), time.Minute, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close(ctx) })
	return service, images
}

// Bridge gives the machine a network for pods, as an agent would.
func (m *Machine) Bridge(t testing.TB, subnet string) {
	t.Helper()
	m.write(t, "/etc/cni/net.d/10-test.conflist", fmt.Sprintf(`{
  "cniVersion": "1.0.0", "name": "test", "plugins": [
    {"type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"}
  ]
}
`, subnet))
	m.Run(t, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
}

// write writes a file of the machine's.
func (m *Machine) write(t testing.TB, path, text string) {
	t.Helper()
	path = m.Path(path)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
