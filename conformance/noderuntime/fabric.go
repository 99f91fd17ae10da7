package noderuntime

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// Gateway is the address of a fabric itself: what is served there machines can reach.
const Gateway = "192.168.77.1"

// registryPort is where a fabric's images are.
const registryPort = "5000"

// Fabric is a segment of network to which machines are attached, with an address of its own. It reaches nothing else, so that as
// many can be as tests want.
type Fabric struct {
	Registry *Registry

	holder   *harness.Process
	dir      string
	machines int
}

// NewFabric makes a fabric that goes with the test, with an empty registry.
func NewFabric(t testing.TB) *Fabric {
	t.Helper()
	Require(t)
	sweep(t)
	f := &Fabric{Registry: NewRegistry(), dir: t.TempDir()}
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	var err error
	if f.holder, err = harness.Launch(cmd, filepath.Join(f.dir, "fabric.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.holder.Stop(syscall.SIGKILL) })
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "fabric", "type", "bridge"},
		{"addr", "add", Gateway + "/24", "dev", "fabric"},
		{"link", "set", "fabric", "up"},
	} {
		f.ip(t, args...)
	}
	f.Registry.Serve(t, listenIn(t, f.holder.PID(), Gateway+":"+registryPort))
	return f
}

// Enter is what a command begins with to run in the fabric's network.
func (f *Fabric) Enter() []string { return enterNetwork(f.holder.PID()) }

func enterNetwork(pid int) []string {
	return []string{"nsenter", "--net=/proc/" + strconv.Itoa(pid) + "/ns/net", "--"}
}

func (f *Fabric) ip(t testing.TB, args ...string) {
	t.Helper()
	ipIn(t, f.holder.PID(), args...)
}

// ipIn runs ip in the network of a process.
func ipIn(t testing.TB, pid int, args ...string) string {
	t.Helper()
	return run(t, "nsenter", append(enterNetwork(pid)[1:], append([]string{"ip"}, args...)...)...)
}

// Dial connects from the fabric's own address.
func (f *Fabric) Dial(ctx context.Context, address string) (net.Conn, error) {
	return dialIn(ctx, f.holder.PID(), address)
}

// Forward passes connections to an address of this machine on to the same address in the fabric, until the test ends.
func (f *Fabric) Forward(t testing.TB, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	forward(t, l, func(ctx context.Context) (net.Conn, error) { return f.Dial(ctx, address) })
}
