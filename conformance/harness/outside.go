package harness

import (
	"path/filepath"
	"strconv"
	"testing"
)

// Programs are a controller manager and a scheduler: the path and the first arguments.
type Programs struct{ Controllers, Scheduler []string }

// Stock are upstream's binaries.
func Stock(t testing.TB) Programs {
	t.Helper()
	return Programs{
		Controllers: []string{tool(t, "k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager")},
		Scheduler:   []string{tool(t, "k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler")},
	}
}

// Subcommands are those of the binary to judge.
func Subcommands(t testing.TB) Programs {
	t.Helper()
	return Programs{Controllers: []string{Rowlock(t), "controllers"}, Scheduler: []string{Rowlock(t), "scheduler"}}
}

// Outside are programs that act on a cluster from outside, as their own users.
type Outside struct {
	ControllersURL, SchedulerURL string // where they serve
	Logs                         []string
}

// ExportIdentity writes the files that components outside need and returns their directory. The server may be running.
func (c *Cluster) ExportIdentity(t testing.TB, server *Server) string {
	t.Helper()
	dir := filepath.Join(c.Dir, "identity")
	args := []string{
		"identity", "export", "--for=kube-controller-manager,kube-scheduler", "--encryption-key-file=" + c.KeyFile(),
		"--server=" + server.URL,
	}
	if c.Target == SQLite {
		args = append(args, "--database=sqlite://"+c.SQLiteFile())
	} else {
		args = append(args, "--database="+c.Postgres.URL(Database))
	}
	command(t, c.Dir, Rowlock(t), append(args, dir)...)
	return dir
}

// StartOutside starts programs beside a server, with the files of ExportIdentity. They end with the test, before the server does.
func (c *Cluster) StartOutside(t testing.TB, programs Programs, identity string) *Outside {
	t.Helper()
	file := func(name string) string { return filepath.Join(identity, name) }
	start := func(name, kubeconfig string, program []string, flags ...string) (url, log string) {
		port := strconv.Itoa(FreePort(t))
		args := append(program[1:], "--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig,
			"--authorization-kubeconfig="+kubeconfig, "--bind-address=127.0.0.1", "--secure-port="+port)
		c.startBeside(t, name, program[0], append(args, flags...))
		return "https://127.0.0.1:" + port, filepath.Join(c.Dir, name+".log")
	}
	var o Outside
	url, log := start("controllers", file("controller-manager.conf"), programs.Controllers,
		"--use-service-account-credentials", "--service-cluster-ip-range=10.96.0.0/16", "--root-ca-file="+file("ca.crt"),
		"--cluster-signing-cert-file="+file("ca.crt"), "--cluster-signing-key-file="+file("ca.key"),
		"--service-account-private-key-file="+file("sa.key"))
	o.ControllersURL, o.Logs = url, append(o.Logs, log)
	url, log = start("scheduler", file("scheduler.conf"), programs.Scheduler)
	o.SchedulerURL, o.Logs = url, append(o.Logs, log)
	return &o
}

// Kubelet is upstream's binary.
func Kubelet(t testing.TB) string {
	t.Helper()
	return tool(t, "k8s.io/kubernetes/cmd/kubelet", "kubelet")
}
