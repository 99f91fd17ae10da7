package pgtest

import (
	"context"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

var prepared atomic.Int64

var server = Server{Prepare: func(ctx context.Context, url string) error {
	prepared.Add(1)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, "CREATE TABLE t (n int)")
	return err
}}

func TestMain(m *testing.M) {
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

func ask[T any](t *testing.T, url, sql string) (out T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if err := conn.QueryRow(t.Context(), sql).Scan(&out); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func TestDatabase(t *testing.T) {
	t.Parallel()
	one, two := server.Database(t), server.Database(t)
	if got := ask[int](t, one, "INSERT INTO t VALUES (7) RETURNING n"); got != 7 {
		t.Errorf("got %d", got)
	}
	if got := ask[int](t, two, "SELECT count(*) FROM t"); got != 0 {
		t.Errorf("one database has %d rows of another", got)
	}
	if got := prepared.Load(); got != 1 {
		t.Errorf("prepared %d times, want once", got)
	}
	for setting, want := range map[string]string{"fsync": "on", "listen_addresses": "127.0.0.1", "server_encoding": "UTF8", "lc_collate": "C"} {
		if got := ask[string](t, one, "SHOW "+setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	c := Start(t)
	url := c.URL("postgres")
	began := ask[string](t, url, "SELECT pg_postmaster_start_time()::text")
	for _, stop := range []func(){c.Crash, c.Shutdown} {
		stop()
		if _, err := pgx.Connect(t.Context(), url); err == nil {
			t.Error("a stopped server answers")
		}
		if err := c.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		now := ask[string](t, url, "SELECT pg_postmaster_start_time()::text")
		if now == began {
			t.Error("the server did not restart")
		}
		began = now
	}
}

func TestPickBinaries(t *testing.T) {
	t.Parallel()
	if a, b := version("/usr/lib/postgresql/9.6/bin/initdb"), version("/usr/lib/postgresql/15/bin/initdb"); a >= b || b != 15 {
		t.Errorf("versions %d and %d", a, b)
	}
}
