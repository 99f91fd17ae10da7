package noderuntime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopTimeout bounds how long a process may take to end.
const stopTimeout = 30 * time.Second

// Process is a program that runs in a machine. Its output goes to a file.
type Process struct {
	Log string

	name string
	cmd  *exec.Cmd
	pid  int           // of the program itself, as seen from outside the machine
	done chan struct{} // closed once it has ended
	err  error         // how; read it after done
}

// start starts a command that is killed when the test's process ends.
func start(cmd *exec.Cmd, log string) (*Process, error) {
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
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &Process{Log: log, name: cmd.Args[0], cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // to whose end the kernel ties the signal
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

// Ended tells whether the program has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// PID is the program's process, as seen from outside the machine.
func (p *Process) PID() int { return p.pid }

// Signal sends the program a signal.
func (p *Process) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.pid, sig); err != nil {
		t.Fatalf("send %s a signal: %v", p.name, err)
	}
}

// Stop sends the program a signal and waits for its end. One that does not end is killed.
func (p *Process) Stop(sig syscall.Signal) error {
	if p.Ended() {
		return p.err
	}
	_ = syscall.Kill(p.pid, sig) // it may have ended
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
	return fmt.Errorf("%s still ran %v after %v", p.name, stopTimeout, sig)
}

// Tail is the end of what the program printed.
func (p *Process) Tail(lines int) string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// await waits for the process that nsenter starts in another namespace, which is the only child it has.
func (p *Process) await() error {
	parent := strconv.Itoa(p.cmd.Process.Pid)
	deadline := time.Now().Add(stopTimeout)
	for {
		data, err := os.ReadFile("/proc/" + parent + "/task/" + parent + "/children")
		if first := strings.Fields(string(data)); err == nil && len(first) > 0 {
			p.pid, err = strconv.Atoi(first[0])
			return err
		}
		if p.Ended() || time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s did not start", p.name), err)
		}
		time.Sleep(time.Millisecond)
	}
}
