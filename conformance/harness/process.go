package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopTimeout bounds how long a process may take to end once it was asked to.
const stopTimeout = 30 * time.Second

// Process is a running program, whose output goes to the file Log. It is killed when the test's process ends.
type Process struct {
	Name, Log string

	cmd  *exec.Cmd
	pid  int           // whom signals are for
	done chan struct{} // closed once the process has ended
	err  error         // how it ended; read it after done
}

// Launch starts cmd with its output appended to the file log. An output that cmd has already it keeps.
func Launch(cmd *exec.Cmd, log string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own handle
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	cmd.Stderr = out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// A test binary that dies (a test's timeout, say) leaves no server behind. The kernel ties this to the thread that
	// started the process, so that thread stays until the process has ended.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &Process{Log: log, Name: cmd.Args[0], cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// PID is the process, as seen from outside the namespaces that it may be in.
func (p *Process) PID() int { return p.pid }

// Done is closed once the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended tells whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends the process a signal.
func (p *Process) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.pid, sig); err != nil {
		t.Fatalf("send %s a signal: %v", p.Name, err)
	}
}

// Stop sends the signal, waits for the process to end and says how it ended. One that does not end is killed.
func (p *Process) Stop(sig syscall.Signal) error {
	if p.Ended() {
		return p.err
	}
	if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(stopTimeout):
	}
	_ = syscall.Kill(p.pid, syscall.SIGQUIT) // what it waits for is in the stacks that a Go program prints
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return fmt.Errorf("%s still ran %v after %v", p.Name, stopTimeout, sig)
}

// Tail is the end of what the process printed.
func (p *Process) Tail(lines int) string { return tail(p.Log, lines) }

// AwaitChild waits for the program that the process starts, as nsenter does in other namespaces: its only child. Signals are for that
// one from then on.
func (p *Process) AwaitChild() error {
	parent := strconv.Itoa(p.cmd.Process.Pid)
	deadline := time.Now().Add(stopTimeout)
	for {
		data, err := os.ReadFile("/proc/" + parent + "/task/" + parent + "/children")
		if first := strings.Fields(string(data)); err == nil && len(first) > 0 {
			p.pid, err = strconv.Atoi(first[0])
			return err
		}
		if p.Ended() || time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s did not start", p.Name), err)
		}
		time.Sleep(time.Millisecond)
	}
}

// FreePort returns a TCP port of 127.0.0.1 that nobody listened on just now.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// tail returns the last lines of a log.
func tail(log string, lines int) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
