package sqlite

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/storagetest"
)

const clusterName = "test"

// backend is one file. All its stores are handles of one Database, as in a server.
type backend struct {
	dir string
	cfg Config
	db  *Database
}

func newBackend(t testing.TB) storagetest.Backend { return open(t, Config{}) }

func open(t testing.TB, cfg Config) *backend {
	t.Helper()
	b := &backend{dir: t.TempDir(), cfg: cfg}
	b.cfg.Path = filepath.Join(b.dir, "rowlock.db")
	b.cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	b.open(t)
	if err := b.db.CreateCluster(t.Context(), clusterName); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func (b *backend) open(t testing.TB) {
	t.Helper()
	db, err := Open(t.Context(), b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.db = db
}

func (b *backend) Database(testing.TB) storage.Database { return b.db }

func (b *backend) Open(t testing.TB) storage.Store {
	t.Helper()
	s, err := b.db.OpenCluster(t.Context(), clusterName)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Hold parks the writer between the last statement of a transaction and its COMMIT.
func (b *backend) Hold(t testing.TB, ops ...storage.Op) func() {
	t.Helper()
	s := b.Open(t)
	w := <-b.db.writing
	parked, resume, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	park := sync.OnceFunc(func() { close(parked); <-resume })
	b.db.beforeCommit = park
	b.db.writing <- w
	go func() {
		defer close(done)
		if _, err := s.Commit(t.Context(), ops); err != nil {
			t.Errorf("held commit: %v", err)
		}
	}()
	<-parked
	release := sync.OnceFunc(func() { close(resume); <-done })
	t.Cleanup(release)
	return release
}

// Crash goes on with a copy of what is on disk at this moment, and forgets what is in memory.
func (b *backend) Crash(t testing.TB) {
	t.Helper()
	w := <-b.db.writing
	next := filepath.Join(t.TempDir(), "rowlock.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(b.cfg.Path + suffix)
		if err != nil && !(suffix == "-wal" && os.IsNotExist(err)) {
			t.Fatal(err)
		}
		if err == nil {
			if err := os.WriteFile(next+suffix, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range b.db.opened() {
		c.end(storage.ErrClosed)
		c.reserved = c.flushed
	}
	b.db.writing <- w
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	b.cfg.Path = next
	b.open(t)
}

func TestStorage(t *testing.T) { storagetest.Run(t, newBackend) }

func BenchmarkStorage(b *testing.B) { storagetest.Bench(b, newBackend) }
