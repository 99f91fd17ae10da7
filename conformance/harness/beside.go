package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// StartSimulation starts "rowlock simulate", which plays nodes from outside, beside any server. It ends with the test,
// before the server does. It is not one of the cluster's processes.
func (c *Cluster) StartSimulation(t testing.TB, server *Server, flags ...string) {
	t.Helper()
	log := filepath.Join(c.Dir, "simulate.log")
	cmd := exec.Command(Rowlock(t), append([]string{"simulate", "--kubeconfig=" + server.Kubeconfig}, flags...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.Dir, "KUBECONFIG=")
	proc, err := launch(cmd, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if proc.ended() || t.Failed() {
			t.Logf("the last lines of %s:\n%s", log, tail(log, 20))
		}
		_ = proc.stop(syscall.SIGTERM)
	})
}

// Processes are those that make up the cluster beside the API servers: the database's and the stock components.
func (c *Cluster) Processes() []int {
	pids := append([]int(nil), c.beside...)
	if c.Postgres != nil && c.Postgres.proc != nil {
		pids = append(pids, c.Postgres.proc.cmd.Process.Pid)
	}
	return pids
}
