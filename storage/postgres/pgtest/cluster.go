package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const superuser = "rowlock"

// Cluster is one running Postgres.
type Cluster struct {
	Port int

	bin, dir   string
	credential *syscall.Credential // nil: run as ourselves
	process    *os.Process
	exited     chan struct{}
}

// Start starts a cluster for one test alone, which may crash and restart it. It is removed when the test ends.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c, err := start(t.Context())
	if err != nil {
		missing(t, err)
	}
	t.Cleanup(c.remove)
	return c
}

// Crash ends the cluster as a power loss would: nothing that was not on disk is there after Restart.
func (c *Cluster) Crash() { c.signal(syscall.SIGQUIT) }

// Shutdown stops the cluster cleanly.
func (c *Cluster) Shutdown() { c.signal(syscall.SIGINT) }

// Restart starts a cluster that was ended, on the same files and port.
func (c *Cluster) Restart(ctx context.Context) error { return c.run(ctx) }

// Dump returns what pg_dump makes of one of the cluster's databases.
func (c *Cluster) Dump(ctx context.Context, database string) ([]byte, error) {
	return c.command(ctx, "pg_dump", "--dbname", c.URL(database)).Output()
}

// Files is the directory that holds everything the cluster writes.
func (c *Cluster) Files() string { return c.dir }

func start(ctx context.Context) (_ *Cluster, err error) {
	c := &Cluster{}
	if c.bin, err = binaries(); err != nil {
		return nil, err
	}
	if c.credential, err = unprivileged(); err != nil {
		return nil, err
	}
	if c.dir, err = os.MkdirTemp("", "rowlock-pg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.remove()
		}
	}()
	if c.credential != nil {
		if err := os.Chown(c.dir, int(c.credential.Uid), int(c.credential.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := c.command(ctx, "initdb", "-D", c.data(), "-U", superuser, "-E", "UTF8", "--locale=C", "-A", "trust")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if c.Port, err = freePort(ctx); err != nil {
		return nil, err
	}
	return c, c.run(ctx)
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.credential}
	return cmd
}

// run starts the server and waits until it answers.
func (c *Cluster) run(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	// Not tied to ctx: it is stopped by signal, so that it can flush or not as the test wants.
	cmd := c.command(context.WithoutCancel(ctx), "postgres", "-D", c.data(), "-k", c.dir, "-h", "127.0.0.1",
		"-p", strconv.Itoa(c.Port), "-c", "fsync=on", "-c", "max_connections=300", "-c", "shared_buffers=64MB",
		"-c", "max_wal_size=2GB")
	cmd.Stdout, cmd.Stderr = log, log
	// Linux ties the child to the thread that started it, so this goroutine keeps its thread until the child has ended.
	dieWithParent(cmd.SysProcAttr)
	started := make(chan error)
	exited := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	c.process, c.exited = cmd.Process, exited
	return c.await(ctx)
}

func (c *Cluster) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, c.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-c.exited:
			log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("postgres ended: %s", log)
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *Cluster) signal(sig os.Signal) {
	if c.process != nil {
		_ = c.process.Signal(sig)
		<-c.exited
		c.process = nil
	}
}

func (c *Cluster) remove() {
	c.signal(syscall.SIGQUIT)
	_ = os.RemoveAll(c.dir)
}

// binaries finds the directory of initdb and postgres: Debian keeps each version's apart from the path.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		path, err = filepath.EvalSymlinks(path) // to where all the others are
		return filepath.Dir(path), err
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("initdb is neither in the path nor in /usr/lib/postgresql")
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1]), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4])
	return n
}

// unprivileged picks who runs the server, which refuses to run as root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("running as root, and there is no user postgres or nobody to run Postgres as")
}

func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
