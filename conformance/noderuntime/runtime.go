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

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// Kind is which runtime a machine has.
type Kind string

// Kinds of runtimes.
const (
	Containerd    Kind = "containerd"
	OldContainerd Kind = "containerd-1.6"
	CRIO          Kind = "crio"
)

// Chosen is the runtime that tests run on: the one that ROWLOCK_TEST_RUNTIME names, or else containerd.
func Chosen(t testing.TB) Kind {
	t.Helper()
	switch kind := Kind(os.Getenv("ROWLOCK_TEST_RUNTIME")); kind {
	case Containerd, OldContainerd, CRIO:
		return kind
	case "":
		return Containerd
	default:
		t.Fatalf("ROWLOCK_TEST_RUNTIME is %q, which is none of %s, %s, %s", kind, Containerd, OldContainerd, CRIO)
		return ""
	}
}

// Runtime installs a runtime of a kind with all that it takes, and starts it.
func (m *Machine) Runtime(t testing.TB, kind Kind) {
	t.Helper()
	switch kind {
	case CRIO:
		m.CRIO(t)
	case OldContainerd:
		m.OldContainerd(t)
	default:
		m.Containerd(t)
	}
}

// installRuntime puts a runtime's programs into the machine, and the CNI plugins.
func (m *Machine) installRuntime(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		m.Install(t, program)
	}
	for _, program := range plugins(t) {
		m.Install(t, program, "opt/cni/bin")
	}
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
	m.runtime = m.Start(t, m.command[0], m.command[1:]...)
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
			t.Fatalf("%s on %s does not answer: %v\n%s", m.command[0], m.Name, err, m.runtime.Tail(40))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// RuntimeProcess is the runtime's.
func (m *Machine) RuntimeProcess() *harness.Process { return m.runtime }

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
		<-p.Done()
	}
}

// Socket is where the runtime listens, for programs in the machine.
func (m *Machine) Socket() string { return m.socket }

// Endpoint is the runtime's, from outside the machine.
func (m *Machine) Endpoint() string { return "unix://" + m.Path(m.socket) }

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
	t.Cleanup(func() { _, _ = service.Close(ctx), images.Close(ctx) })
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
