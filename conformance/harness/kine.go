package harness

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kineConnections bounds kine's pool of connections to Postgres. By its default kine opens one for each request that
// waits, and spends most of its time on that.
const kineConnections = 16

// onKine starts kine and makes servers kube-apiserver on it. An acknowledged write is on disk, as with etcd: on SQLite that
// is not kine's default.
func (c *Cluster) onKine(t testing.TB) {
	t.Helper()
	var args []string
	if c.Target == KinePostgres {
		c.Postgres = NewPostgres(t)
		args = []string{
			"--endpoint", c.Postgres.CreateDatabase(t, "kine"),
			fmt.Sprintf("--datastore-max-open-connections=%d", kineConnections),
		}
	} else {
		dir := filepath.Join(c.Dir, "kine")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		args = []string{"--endpoint", "sqlite://" + filepath.Join(dir, "state.db") +
			"?_journal_mode=WAL&_busy_timeout=30000&_synchronous=FULL&_txlock=immediate&_stmt_cache_size=20&cache=shared"}
	}
	addr, log := fmt.Sprintf("127.0.0.1:%d", FreePort(t)), filepath.Join(c.Dir, "kine.log")
	cmd := exec.Command(kine(t), append(args, "--listen-address=tcp://"+addr, "--metrics-bind-address=0")...)
	cmd.Dir = c.Dir
	proc, err := Launch(cmd, log)
	if err != nil {
		t.Fatal(err)
	}
	c.beside = append(c.beside, proc.cmd.Process.Pid)
	t.Cleanup(func() {
		_ = proc.Stop(syscall.SIGTERM)
	})
	deadline := time.Now().Add(readyTimeout)
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			break
		}
		if proc.Ended() || time.Now().After(deadline) {
			t.Fatalf("kine did not start: %v\n%s", err, tail(log, 20))
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.kubeAPIServers(t, "http://"+addr)
}

// kine returns the path of kine. It is a module of its own: its requirements are not kube-apiserver's. Its version is the
// last one that works with a bounded pool: v0.17.5 opens a transaction for each write and then inserts outside of it, on a
// second connection, so as many writers as there are connections wait for each other until they time out.
func kine(t testing.TB) string {
	t.Helper()
	return build{module: filepath.Join(moduleDir(t), "bench", "kine"), pkg: "github.com/k3s-io/kine", name: "kine"}.path(t, "build")
}

// Load returns the path of the load generator whose source is in a directory, built anew.
func Load(t testing.TB, dir string) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		Missing(t, "the load generator is not there: %v", err)
	}
	path := filepath.Join(t.TempDir(), "loadgen")
	command(t, dir, "go", strings.Fields("build -trimpath -ldflags=-s -o "+path+" .")...)
	return path
}
