package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// SimulationFlags are the flags by which a server simulates nodes itself; only "rowlock up" does.
func SimulationFlags(nodes int, jobTime time.Duration) []string {
	return []string{"--simulate-nodes=" + strconv.Itoa(nodes), "--simulate-job-duration=" + jobTime.String()}
}

// Simulation is "rowlock simulate" beside a server.
type Simulation struct {
	log  string
	proc *Process
}

// Simulate simulates nodes from beside the servers that a kubeconfig leads to, with further flags of "rowlock simulate". It
// ends with the test, before the servers do, and is not one of the cluster's processes.
func (c *Cluster) Simulate(t testing.TB, kubeconfig string, nodes int, flags ...string) *Simulation {
	t.Helper()
	args := []string{"simulate", "--kubeconfig=" + kubeconfig, "--nodes=" + strconv.Itoa(nodes)}
	cmd := exec.Command(Rowlock(t), append(args, flags...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.Dir, "KUBECONFIG=")
	s := &Simulation{log: filepath.Join(c.Dir, "rowlock-simulate.log")}
	var err error
	if s.proc, err = Launch(cmd, s.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.proc == nil {
			return
		}
		if s.proc.Ended() {
			t.Errorf("rowlock simulate ended before the test did: %v\n%s", s.proc.err, tail(s.log, 20))
		}
		_ = s.proc.Stop(syscall.SIGTERM)
	})
	return s
}

// Kill switches the nodes off.
func (s *Simulation) Kill() {
	_ = s.proc.Stop(syscall.SIGKILL) // "signal: killed", as asked for
	s.proc = nil
}
