package noderuntime

import (
	"fmt"
	"os/exec"
	"testing"
)

// crioConfig is what differs from the defaults.
const crioConfig = `[crio]
storage_driver = "overlay"
[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
default_runtime = "runc"
pinns_path = "/opt/bin/pinns"
[crio.runtime.runtimes.runc]
runtime_path = "/opt/bin/%s"
runtime_root = "/run/runc"
monitor_path = "/opt/bin/conmon"
monitor_cgroup = "pod"
[crio.runtime.runtimes.test-handler]
inherit_default_runtime = true
monitor_path = "/opt/bin/conmon"
monitor_cgroup = "pod"
[crio.image]
pause_image = "` + PauseImage + `"
signature_policy = "/etc/containers/policy.json"
[crio.network]
network_dir = "/etc/cni/net.d"
plugin_dirs = ["/opt/cni/bin"]
[crio.nri]
enable_nri = false
`

// crioMirror sends CRI-O to the fabric's registry, for all registries whose names end so.
const crioMirror = `[[registry]]
prefix = "*.io"
[[registry.mirror]]
location = "` + Gateway + ":" + registryPort + `"
insecure = true
`

// CRIO installs CRI-O with conmon, runc and the CNI plugins, and starts it. It has no network for pods yet: that is up to an
// agent, or to Bridge.
func (m *Machine) CRIO(t testing.TB) {
	t.Helper()
	// Without it CRI-O 1.34 crashes when a pod ends that had a port of the node's.
	if _, err := exec.LookPath("iptables"); err != nil {
		missing(t, "CRI-O needs iptables, of Debian's package iptables")
	}
	lower := "runc"
	programs := []string{crio(t), pinns(t), conmon(t), runc(t)}
	if !mayRaise() {
		lower = "limitedrunc"
		programs = append(programs, limitedRunc(t))
	}
	m.installRuntime(t, programs...)
	m.write(t, "/etc/crio/crio.conf", fmt.Sprintf(crioConfig, lower))
	m.write(t, "/etc/containers/registries.conf", crioMirror)
	m.write(t, "/etc/containers/policy.json", `{"default": [{"type": "insecureAcceptAnything"}]}`)
	m.socket, m.command = "/run/crio/crio.sock", []string{"/opt/bin/crio", "--config", "/etc/crio/crio.conf", "--config-dir", ""}
	m.StartRuntime(t)
}
