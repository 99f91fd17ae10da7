package harness

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a throwaway Postgres with durable commits, on a free port of 127.0.0.1.
type Postgres struct {
	bin, data, log string
	port           int
	owner          *syscall.SysProcAttr
	proc           *Process
}

// NewPostgres makes a Postgres, starts it, and ends it with the test.
func NewPostgres(t testing.TB) *Postgres {
	t.Helper()
	bin := postgresBin(t)
	// Not t.TempDir, whose parent only the user of the tests may enter.
	dir, err := os.MkdirTemp("", "rowlock-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	p := &Postgres{
		bin:   bin,
		data:  filepath.Join(dir, "postgres"),
		log:   filepath.Join(dir, "postgres.log"),
		port:  FreePort(t),
		owner: unprivileged(t),
	}
	if err := os.Mkdir(p.data, 0o700); err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("rowlock\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p.owner != nil {
		for _, path := range []string{p.data, password} {
			if err := os.Chown(path, int(p.owner.Credential.Uid), int(p.owner.Credential.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	initdb := exec.CommandContext(t.Context(), filepath.Join(bin, "initdb"), "-D", p.data, "-U", "rowlock",
		"--auth=scram-sha-256", "--pwfile="+password, "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	initdb.Dir, initdb.SysProcAttr = p.data, p.owner
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	p.Start(t)
	t.Cleanup(func() {
		if p.proc != nil {
			p.Stop(t)
		}
		if t.Failed() {
			t.Logf("the last lines of %s:\n%s", p.log, tail(p.log, 20))
		}
	})
	return p
}

// Start starts Postgres and waits until it takes connections.
func (p *Postgres) Start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.data, "-p", strconv.Itoa(p.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=on",
		"-c", "synchronous_commit=on", "-c", "full_page_writes=on",
		"-c", "max_connections=300", "-c", "shared_buffers=256MB")
	cmd.Dir = p.data
	if p.owner != nil {
		owner := *p.owner
		cmd.SysProcAttr = &owner
	}
	proc, err := Launch(cmd, p.log)
	if err != nil {
		t.Fatal(err)
	}
	p.proc = proc
	deadline := time.Now().Add(readyTimeout)
	for {
		conn, err := pgx.Connect(t.Context(), p.URL("postgres"))
		if err == nil {
			if err := conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			return
		}
		if proc.Ended() || time.Now().After(deadline) {
			t.Fatalf("Postgres did not start: %v\n%s", err, tail(p.log, 20))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Stop ends Postgres without waiting for its clients to leave ("fast").
func (p *Postgres) Stop(t testing.TB) {
	t.Helper()
	if err := p.proc.Stop(syscall.SIGINT); err != nil {
		t.Errorf("stop Postgres: %v\n%s", err, tail(p.log, 20))
	}
	p.proc = nil
}

// Crash ends Postgres at once ("immediate"): the next start recovers from the write-ahead log.
func (p *Postgres) Crash(t testing.TB) {
	t.Helper()
	_ = p.proc.Stop(syscall.SIGQUIT) // ends with a status that says so
	p.proc = nil
}

// CreateDatabase makes an empty database and returns its URL.
func (p *Postgres) CreateDatabase(t testing.TB, name string) string {
	t.Helper()
	p.Exec(t, "postgres", "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	return p.URL(name)
}

// Exec runs one SQL statement in a database and returns how many rows it changed.
func (p *Postgres) Exec(t testing.TB, database, sql string, args ...any) int64 {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tag, err := conn.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag.RowsAffected()
}

// PID is the process of a Postgres that runs.
func (p *Postgres) PID() int { return p.proc.cmd.Process.Pid }

// URL is the address of a database, with user and password.
func (p *Postgres) URL(database string) string {
	return fmt.Sprintf("postgres://rowlock:rowlock@127.0.0.1:%d/%s?sslmode=disable", p.port, database)
}

// postgresBin finds the directory with Postgres' programs: on the PATH, or where Debian keeps them, newest first.
func postgresBin(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		Missing(t, "no initdb on the PATH nor in /usr/lib/postgresql: apt-get install postgresql")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1])
}

// unprivileged returns the identity to run Postgres with, which refuses to be root; nil when the tests are not root.
func unprivileged(t testing.TB) *syscall.SysProcAttr {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}
	}
	Missing(t, "root cannot run Postgres, and there is neither a user postgres nor nobody")
	return nil
}
