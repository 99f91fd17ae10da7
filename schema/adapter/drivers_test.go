package adapter_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
	"github.com/rowlock-io/rowlock/storage/postgres"
	"github.com/rowlock-io/rowlock/storage/postgres/pgtest"
	"github.com/rowlock-io/rowlock/storage/sqlite"
)

type storageInterface = apistorage.Interface

const clusterName = "test"

var postgresServer = pgtest.Server{Prepare: func(ctx context.Context, url string) error {
	return postgres.Migrate(ctx, postgres.Config{URL: url})
}}

func TestMain(m *testing.M) {
	code := m.Run()
	postgresServer.Stop()
	os.Exit(code)
}

// TestUpstreamSuite runs upstream's suite on SQLite with one process's two handles, and on Postgres with two processes'
// worth of pools, caches and committers. On memory it runs with one replica, where nothing hides a wrong order. On SQLite the
// replicas have no memory for objects.
func TestUpstreamSuite(t *testing.T) {
	t.Run("memory", func(t *testing.T) { runSuite(t, 1, memoryDatabase) })
	t.Run("sqlite", func(t *testing.T) { runSuite(t, 2, sqliteDatabase) })
	t.Run("postgres", func(t *testing.T) { runSuite(t, 2, postgresDatabase) })
}

func memoryDatabase(t testing.TB) opener {
	return shared(t, memory.New())
}

func sqliteDatabase(t testing.TB) opener {
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "rowlock.db")})
	if err != nil {
		t.Fatal(err)
	}
	open := shared(t, db)
	return func(t testing.TB) storage.Store { return scarce{open(t)} }
}

// shared opens every replica from one handle.
func shared(t testing.TB, db storage.Database) opener {
	t.Cleanup(func() { _ = db.Close() })
	if err := db.CreateCluster(t.Context(), clusterName); err != nil {
		t.Fatal(err)
	}
	return func(t testing.TB) storage.Store { return openCluster(t, db) }
}

// postgresDatabase opens every replica from a handle of its own, as different processes do.
func postgresDatabase(t testing.TB) opener {
	url := postgresServer.Database(t)
	first := true
	return func(t testing.TB) storage.Store {
		db, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 4})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		if first {
			if err := db.CreateCluster(t.Context(), clusterName); err != nil {
				t.Fatal(err)
			}
			first = false
		}
		return openCluster(t, db)
	}
}

func openCluster(t testing.TB, db storage.Database) storage.Store {
	t.Helper()
	s, err := db.OpenCluster(t.Context(), clusterName)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
