package noderuntime

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

//go:embed machine.sh
var machineScript []byte

// Machine is a Linux machine as far as programs in it can tell: with its own /etc, /opt, /run and /var, its own processes, network,
// name and cgroups.
type Machine struct {
	Name    string
	Address string // on the fabric

	fabric  *Fabric
	files   string // its files, as seen from outside
	holder  *harness.Process
	running []*harness.Process
	runtime *harness.Process // once it was started
	socket  string           // where it listens
	command []string         // it is started by
}

// NewMachine attaches a machine to the fabric. It ends, with all that runs in it, before the test does.
func (f *Fabric) NewMachine(t testing.TB, name string) *Machine {
	t.Helper()
	f.machines++
	m := &Machine{Name: name, Address: fmt.Sprintf("192.168.77.%d", 10+f.machines), fabric: f, files: t.TempDir()}
	all, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	group := fmt.Sprintf("%s%d-%s-%d", cgroupPrefix, os.Getpid(), name, f.machines)
	t.Cleanup(func() {
		m.end(t)
		if err := removeCgroups(all, group); err != nil {
			t.Errorf("cgroups of %s are left: %v", name, err)
		}
	})
	if err := makeCgroups(all, group); err != nil {
		t.Fatal(err)
	}
	if err := m.writeFiles(all, group); err != nil {
		t.Fatal(err)
	}
	if err := m.boot(group); err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprintf("port%d", f.machines)
	f.ip(t, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(m.holder.PID()))
	f.ip(t, "link", "set", port, "master", "fabric", "up")
	for _, args := range [][]string{
		{"addr", "add", m.Address + "/24", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
		{"route", "add", "default", "via", Gateway},
	} {
		ipIn(t, m.holder.PID(), args...)
	}
	return m
}

func (m *Machine) writeFiles(all []hierarchy, group string) error {
	for _, dir := range []string{
		"etc", "etc.work", "opt/bin", "opt/cni/bin", "var/lib", "var/log", "var/cache", "var/tmp",
	} {
		if err := os.MkdirAll(filepath.Join(m.files, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("/run", filepath.Join(m.files, "var/run")); err != nil {
		return err
	}
	var list strings.Builder
	for _, h := range all {
		fmt.Fprintf(&list, "%s %s %s\n", h.dir, h.fstype, h.options)
	}
	for name, text := range map[string]string{
		"machine.sh": string(machineScript), "hierarchies": list.String(),
		"etc/hostname": m.Name + "\n", "etc/hosts": "127.0.0.1 localhost\n" + m.Address + " " + m.Name + "\n",
		"etc/resolv.conf": "nameserver " + Gateway + "\n", "etc/machine-id": fmt.Sprintf("%x\n", sha256.Sum256([]byte(group)))[:32] + "\n",
	} {
		if err := os.WriteFile(filepath.Join(m.files, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// boot starts the machine's first process and waits until it has made the rest.
func (m *Machine) boot(group string) error {
	cmd := exec.Command("/bin/sh", filepath.Join(m.files, "machine.sh"), m.files, m.Name, group)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Unshareflags: syscall.CLONE_NEWNS, // which also keeps what is mounted there from coming out
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if m.holder, err = harness.Launch(cmd, filepath.Join(m.files, "machine.log")); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) || line != "ready\n" {
		return fmt.Errorf("the machine %s does not come up: %q, %v\n%s", m.Name, line, err, m.holder.Tail(20))
	}
	return nil
}

// end ends everything in the machine.
func (m *Machine) end(t testing.TB) {
	for i := len(m.running) - 1; i >= 0; i-- {
		p := m.running[i]
		if t.Failed() {
			t.Logf("the last lines of %s on %s:\n%s", p.Name, m.Name, p.Tail(40))
		}
		_ = p.Stop(syscall.SIGTERM) // as far as it does; the next line is thorough
	}
	if m.holder != nil {
		_ = m.holder.Stop(syscall.SIGKILL)
	}
}

// Command is a command that runs in the machine, with all its namespaces, until it ends by itself.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	// The shell moves itself to where the machine's own processes are, and becomes the program.
	const move = `for f in /sys/fs/cgroup/init/cgroup.procs /sys/fs/cgroup/*/init/cgroup.procs; do [ ! -e "$f" ] || echo 0 >"$f"; done; exec "$@"`
	enter := []string{
		"--target", strconv.Itoa(m.holder.PID()), "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--wdns=/", "--",
		"/bin/sh", "-c", move, "sh", name,
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	return cmd
}

// Run runs a program in the machine to its end, and returns what it printed.
func (m *Machine) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := m.Command(t.Context(), name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run %s %s on %s: %v\n%s%s", name, strings.Join(args, " "), m.Name, err, out, stderr.String())
	}
	return string(out)
}

// Start starts a program in the machine. It ends before what was started earlier does.
func (m *Machine) Start(t testing.TB, name string, args ...string) *harness.Process {
	t.Helper()
	log := filepath.Join(m.files, filepath.Base(name)+".log")
	p, err := harness.Launch(m.Command(context.Background(), name, args...), log)
	if err == nil {
		p.Name = filepath.Base(name)
		err = p.AwaitChild()
	}
	if err != nil {
		t.Fatal(err)
	}
	m.running = append(m.running, p)
	return p
}

// Path is the way from outside to a file that programs in the machine know by an absolute path.
func (m *Machine) Path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(m.holder.PID()), "root", path)
}

// Install puts a program into the machine's /opt/bin, or into another directory below /opt.
func (m *Machine) Install(t testing.TB, program string, dir ...string) {
	t.Helper()
	to := filepath.Join(append(append([]string{m.files}, dir...), filepath.Base(program))...)
	if len(dir) == 0 {
		to = filepath.Join(m.files, "opt/bin", filepath.Base(program))
	}
	if os.Link(program, to) != nil { // on another file system, say
		run(t, "cp", program, to)
	}
}

// Listen listens in the machine's network.
func (m *Machine) Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	return listenIn(t, m.holder.PID(), address)
}

// Dial connects in the machine's network.
func (m *Machine) Dial(ctx context.Context, address string) (net.Conn, error) {
	return dialIn(ctx, m.holder.PID(), address)
}
