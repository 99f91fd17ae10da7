package postgres

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/postgres/pgtest"
)

// TestPowerLoss ends a server in several ways, with relaxed writes not yet on disk. Whatever survives, no revision is shown a
// second time, and who followed the old log is told that it ended. The handle works on, with its dead connections.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	if err := pg.Exec(t.Context(), "ALTER SYSTEM SET wal_writer_delay = '10s'"); err != nil {
		t.Fatal(err) // so that relaxed writes are still in memory when the plug is pulled
	}
	s := newBackendAt(t, pg.URL("postgres")).Open(t).(*Store)
	restart := func() {
		if err := pg.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	crash := func() { pg.Crash(); restart() }
	crash() // for the setting

	for i, tc := range []struct {
		name string
		stop func()
	}{
		{"power loss", crash},
		{"again before anything is written", crash},
		{"clean restart", func() { pg.Shutdown(); restart() }},
		{"a backend is killed and takes the others along", func() { killBackend(t, pg.URL("postgres")) }},
	} {
		before := mustHead(t, s)
		kept := mustCommit(t, s, create(tc.name, "{}")).Head
		relaxed := create(tc.name+" relaxed", "{}")
		relaxed.Relaxed = true
		shown := mustCommit(t, s, relaxed).Head
		tc.stop()
		now := mustHead(t, s)
		if now.Epoch != before.Epoch+1 || now.Revision <= shown {
			t.Errorf("%d %s: head %v after %v had been shown", i, tc.name, now, storage.Position{Epoch: before.Epoch, Revision: shown})
		}
		obj, err := s.Get(t.Context(), key(tc.name), 0)
		if err != nil || obj.Revision != kept {
			t.Errorf("%s: the durable write at %d is gone: %v, error %v", tc.name, kept, obj, err)
		}
		for _, after := range []storage.Revision{kept, shown} {
			if _, err := s.Changes(t.Context(), after, 0); !errors.Is(err, storage.ErrCompacted) {
				t.Errorf("%s: changes after %d: got %v, want ErrCompacted", tc.name, after, err)
			}
		}
		next := mustCommit(t, s, create(tc.name+" next", "{}"))
		if next.Before != now {
			t.Errorf("%s: the next commit began at %v, want %v", tc.name, next.Before, now)
		}
		if got := names(t, s, now.Revision); len(got) != 1 {
			t.Errorf("%s: the new epoch's log has %q", tc.name, got)
		}
	}
}

// killBackend ends a backend as the kernel does when memory is short. Postgres then restarts all of itself but the
// process whose start time tells a restart.
func killBackend(t *testing.T, url string) {
	t.Helper()
	victim, witness := connect(t, url), connect(t, url)
	process, err := os.FindProcess(int(victim.PgConn().PID()))
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := witness.Exec(t.Context(), "SELECT pg_sleep(600)"); err == nil {
		t.Fatal("the other backends lived on")
	}
	for {
		c, err := pgx.Connect(t.Context(), url)
		if err == nil {
			_ = c.Close(t.Context())
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}
