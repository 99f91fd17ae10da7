package harness

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Binaries are the programs of API servers and what they store in, but for Postgres.
func (target Target) Binaries(t testing.TB) []string {
	if target.IsRowlock() {
		return []string{Rowlock(t)}
	}
	store := kine
	if target == KubeAPIServer {
		store = func(t testing.TB) string { return tool(t, "go.etcd.io/etcd/server/v3", "etcd") }
	}
	return []string{store(t), tool(t, "k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver")}
}

// Components are the programs of what acts on a cluster beside its API servers. Rowlock's are in its servers.
func (target Target) Components(t testing.TB) []string {
	if target.IsRowlock() {
		return nil
	}
	var paths []string
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		paths = append(paths, tool(t, "k8s.io/kubernetes/cmd/"+name, name))
	}
	return paths
}

// Cold drops files from the page cache, as far as nobody uses them. A file that was just written lies there in large
// pieces, and Linux from 6.18 on maps a whole piece for each byte that is touched: programs would seem to take the memory
// that their files do, which they do not once the machine was started anew.
func Cold(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		f, err := os.Open(path)
		if err == nil {
			err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Processes are those that make up the cluster beside the API servers: the database's and the stock components.
func (c *Cluster) Processes() []int {
	pids := append([]int(nil), c.beside...)
	if c.Postgres != nil && c.Postgres.proc != nil {
		pids = append(pids, c.Postgres.proc.cmd.Process.Pid)
	}
	return pids
}
