package postgres

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowlock-io/rowlock/storage"
)

func databaseName(t testing.TB, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// TestTrouble lets the database refuse in ways that an operator can cure. Nothing is written, and the error tells the cure.
func TestTrouble(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		begin func(t *testing.T, b *backend)
		want  string
	}{
		"read-only": {func(t *testing.T, b *backend) {
			exec(t, b.url, "ALTER DATABASE "+databaseName(t, b.url)+" SET default_transaction_read_only = on")
		}, "connect to the primary"},
		"locked for long": {func(t *testing.T, b *backend) { b.Hold(t, create("held", "{}")) }, "pg_stat_activity"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t).(*backend)
			d := openAt(t, b.url, func(c *Config) { c.LockTimeout = 50 * time.Millisecond })
			s := storeOf(t, d)
			tc.begin(t, b)
			d.pool.Reset() // settings of a database count from the next connection on
			_, err := s.Commit(t.Context(), []storage.Op{create("one", "{}")})
			if !errors.Is(err, storage.ErrBusy) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want ErrBusy and %q", err, tc.want)
			}
			if _, ok := errors.AsType[*pgconn.PgError](err); ok {
				t.Error("the driver's own error got out")
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), Config{URL: "postgres://user:hunter2@127.0.0.1:1/db?sslmode=disable"})
	if !errors.Is(err, storage.ErrBusy) || !strings.Contains(err.Error(), "check that it runs") {
		t.Errorf("got %v, want ErrBusy and what to check", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is in %q", err)
	}
	if _, err := Open(t.Context(), Config{URL: "postgres://user:hunter2@[::"}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func TestJudgeCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]error{
		"08006": storage.ErrBusy, "53100": storage.ErrBusy, "53300": storage.ErrBusy, "53999": storage.ErrBusy,
		"57P01": storage.ErrBusy, "57P03": storage.ErrBusy, "58030": storage.ErrBusy, "40001": storage.ErrBusy,
		"55P03": storage.ErrBusy, "42P01": storage.ErrSchema, "42883": storage.ErrSchema, "22021": nil, "": nil,
	} {
		got := judgeCode(code)
		if got.kind != want {
			t.Errorf("%q: got %v, want %v", code, got.kind, want)
		}
		if (got.kind == nil) != (got.hint == "") {
			t.Errorf("%q: a known code needs a hint, an unknown one cannot have one: %q", code, got.hint)
		}
	}
}

// TestPooler lives with what a pooler in transaction mode does: every transaction may be on another server connection,
// of which none has what was prepared before.
func TestPooler(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t).(*backend)
			d := openAt(t, b.url+"&default_query_exec_mode="+mode, func(c *Config) { c.NoListen = true })
			s := storeOf(t, d)
			made := mustCommit(t, s, create("one", "{}")).Head
			conn, err := d.pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = conn.Exec(t.Context(), "DEALLOCATE ALL")
			conn.Release()
			if err != nil {
				t.Fatal(err)
			}
			data := []byte("\x00\xff{}")
			done := mustCommit(t, s, storage.Op{Key: key("one"), Verb: storage.Update, Expect: made, Data: data}, create("two", ""))
			if done.Head != made+2 || done.Results[0].Err != nil {
				t.Fatalf("got %+v", done)
			}
			obj, err := s.Get(t.Context(), key("one"), done.Head)
			if err != nil || string(obj.Data) != string(data) {
				t.Errorf("got %q, error %v", obj.Data, err)
			}
			for _, at := range []storage.Revision{0, made} {
				page, err := s.List(t.Context(), storage.Selector{Resource: "pods"}, storage.ListOptions{Revision: at, Limit: 10})
				if err != nil || len(page.Objects) != map[storage.Revision]int{0: 2, made: 1}[at] {
					t.Errorf("list at %d: %v, error %v", at, page, err)
				}
			}
			if got := names(t, s, 1); len(got) != 3 {
				t.Errorf("the log has %q", got)
			}
			if err := d.poll(t.Context()); err != nil {
				t.Error(err)
			}
			if rev, err := s.Horizon(t.Context(), time.Hour, 1); err != nil || rev != done.Head {
				t.Errorf("horizon %d, error %v", rev, err)
			}
		})
	}
}

// TestCancelLeavesNothing cancels a commit that waits for its turn.
func TestCancelLeavesNothing(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	s := b.Open(t)
	release := b.Hold(t, create("held", "{}"))
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := s.Commit(ctx, []storage.Op{create("one", "{}")})
		answered <- err
	}()
	const waiting = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
	exec(t, b.url, "DO $$ BEGIN WHILE NOT EXISTS ("+waiting+") LOOP PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01); END LOOP; END $$")
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the reason", err)
	}
	exec(t, b.url, "DO $$ BEGIN WHILE EXISTS ("+waiting+") LOOP PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01); END LOOP; END $$")
	release()
	if got := names(t, s, 1); len(got) != 1 {
		t.Errorf("the log has %q, want what was held alone", got)
	}
}
