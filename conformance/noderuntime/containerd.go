package noderuntime

import (
	"fmt"
	"testing"
)

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

// oldContainerdConfig is the same for containerd 1.6.
const oldContainerdConfig = `version = 2
imports = []
[plugins."io.containerd.internal.v1.opt"]
  path = "/opt/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + PauseImage + `"
  restrict_oom_score_adj = %t
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "/opt/bin/runc"
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.test-handler]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.test-handler.options]
      BinaryName = "/opt/bin/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
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
	m.containerd(t, containerdConfig, containerd(t, "containerd"), containerd(t, "containerd-shim-runc-v2"), runc(t))
}

// OldContainerd does the same with containerd 1.6 and runc 1.1, as Debian 12 has them.
func (m *Machine) OldContainerd(t testing.TB) {
	t.Helper()
	m.containerd(t, oldContainerdConfig, fromDebian(t, "bookworm", "containerd", "usr/bin/containerd"),
		fromDebian(t, "bookworm", "containerd", "usr/bin/containerd-shim-runc-v2"), fromDebian(t, "bookworm", "runc", "usr/sbin/runc"))
}

func (m *Machine) containerd(t testing.TB, config string, programs ...string) {
	t.Helper()
	m.installRuntime(t, programs...)
	m.write(t, "/etc/containerd/config.toml", fmt.Sprintf(config, !mayRaise()))
	m.write(t, "/etc/containerd/certs.d/_default/hosts.toml", mirror)
	m.socket, m.command = "/run/containerd/containerd.sock", []string{"/opt/bin/containerd", "--config", "/etc/containerd/config.toml"}
	m.StartRuntime(t)
}
