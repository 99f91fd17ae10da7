package harness

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Controllers is a stock kube-controller-manager beside a server.
type Controllers struct {
	Log  string
	proc *Process
}

// StartControllers starts the stock kube-controller-manager with all its default controllers, as the server's cluster
// admin, with further flags. It ends with the test, before the server does.
func (c *Cluster) StartControllers(t testing.TB, server *Server, flags ...string) *Controllers {
	t.Helper()
	binary := tool(t, "k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager")
	args := []string{
		"--kubeconfig=" + server.Kubeconfig, "--leader-elect=false", "--use-service-account-credentials",
		"--secure-port=0", // nobody asks for its metrics
		"--service-cluster-ip-range=10.96.0.0/16",
		// Enough for many tests at once, and no wait of minutes for the next full look at the quotas.
		"--kube-api-qps=300", "--kube-api-burst=600", "--resource-quota-sync-period=20s",
	}
	return &Controllers{
		Log:  filepath.Join(c.Dir, "kube-controller-manager.log"),
		proc: c.startBeside(t, "kube-controller-manager", binary, append(append(args, c.controllerFlags(server)...), flags...)),
	}
}

// StartScheduler starts the stock kube-scheduler, as the server's cluster admin, with further flags. It ends with the
// test, before the server does.
func (c *Cluster) StartScheduler(t testing.TB, server *Server, flags ...string) {
	t.Helper()
	binary := tool(t, "k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler")
	args := []string{
		"--kubeconfig=" + server.Kubeconfig, "--leader-elect=false", "--secure-port=0",
		"--kube-api-qps=300", "--kube-api-burst=600",
	}
	c.startBeside(t, "kube-scheduler", binary, append(args, flags...))
}

// startBeside starts a client of the server that ends before it.
func (c *Cluster) startBeside(t testing.TB, name, binary string, args []string) *Process {
	t.Helper()
	log := filepath.Join(c.Dir, name+".log")
	proc, err := Launch(exec.Command(binary, args...), log)
	if err != nil {
		t.Fatal(err)
	}
	c.beside = append(c.beside, proc.cmd.Process.Pid)
	t.Cleanup(func() {
		if proc.Ended() {
			t.Errorf("%s ended before the test did: %v", name, proc.err)
		}
		if t.Failed() {
			t.Logf("the last lines of %s:\n%s", log, tail(log, 20))
		}
		_ = proc.Stop(syscall.SIGTERM) // it ends by the signal, not with a status
	})
	return proc
}

// controllerFlags are the files that kube-controller-manager needs beside the kubeconfig. Rowlock keeps its keys to
// itself; the kubeconfig holds its authority.
func (c *Cluster) controllerFlags(server *Server) []string {
	if c.Target.IsRowlock() {
		return nil
	}
	return []string{
		"--service-account-private-key-file=" + filepath.Join(c.Dir, peerSigningKey),
		"--root-ca-file=" + filepath.Join(c.Dir, fmt.Sprintf("certs-%d", server.port), "apiserver.crt"),
	}
}
