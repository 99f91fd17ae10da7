package postgres

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/postgres/pgtest"
	"github.com/rowlock-io/rowlock/storage/storagetest"
)

// server is the Postgres of this test binary.
var server = pgtest.Server{Prepare: func(ctx context.Context, url string) error {
	return Migrate(ctx, Config{URL: url})
}}

func TestMain(m *testing.M) {
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

const clusterName = "test"

// backend opens one Database for each replica.
type backend struct {
	url  string
	mu   sync.Mutex
	open []*Database
}

func newBackend(t testing.TB) storagetest.Backend { return newBackendAt(t, server.Database(t)) }

func newBackendAt(t testing.TB, url string) *backend {
	b := &backend{url: url}
	if err := b.Database(t).CreateCluster(t.Context(), clusterName); err != nil {
		t.Fatal(err)
	}
	return b
}

func openAt(t testing.TB, url string, change ...func(*Config)) *Database {
	t.Helper()
	cfg := Config{URL: url, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, c := range change {
		c(&cfg)
	}
	d, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func storeOf(t testing.TB, d *Database) *Store {
	t.Helper()
	s, err := d.OpenCluster(t.Context(), clusterName)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*Store)
}

func (b *backend) Database(t testing.TB) storage.Database { return b.database(t) }

func (b *backend) database(t testing.TB) *Database {
	d := openAt(t, b.url)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = append(b.open, d)
	return d
}

func (b *backend) Open(t testing.TB) storage.Store { return storeOf(t, b.database(t)) }

// Hold runs the statement of a commit in a transaction that stays open.
func (b *backend) Hold(t testing.TB, ops ...storage.Op) func() {
	t.Helper()
	d := b.database(t)
	s := storeOf(t, d)
	tx, err := d.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req := newRequest(ops)
	var a answer
	err = tx.QueryRow(t.Context(), d.sql.Commit, s.id, int64(1), req.relaxed, d.lockTimeout(),
		req.resources, req.namespaces, req.names, req.verbs, req.expects, req.datas).
		Scan(&a.status, &a.before, &a.head, &a.epoch, &a.at, &a.present)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range a.committed(req).Results {
		if r.Err != nil {
			t.Fatalf("held commit: %v", r.Err)
		}
	}
	release := sync.OnceFunc(func() {
		if err := tx.Commit(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("held commit: %v", err)
		}
	})
	t.Cleanup(release)
	return release
}

// Crash leaves this database as a crash of the server leaves it, while other tests go on with theirs: all connections
// are gone, and tables that are not logged are empty. TestPowerLoss has a server of its own and pulls the plug.
func (b *backend) Crash(t testing.TB) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.open {
		_ = d.Close()
	}
	b.open = nil
	exec(t, b.url, "TRUNCATE lifetime")
}

// exec runs a statement as an operator would.
func exec(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestStorage(t *testing.T) { storagetest.Run(t, newBackend) }

func BenchmarkStorage(b *testing.B) { storagetest.Bench(b, newBackend) }
