package robustness_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/mattn/go-sqlite3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// TestSecondServer starts a second server on the same SQLite data: it is refused, and the first one goes on.
func TestSecondServer(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		first := cluster.StartServer(t)
		client := first.Client(t)
		harness.NewNamespace(t, client, "before")
		cluster.NewServer(t).Refuses(t, `(?i)in use|another (process|server)|already`)
		harness.NewNamespace(t, client, "after")
		first.Kill(t) // leaves no lock behind
		cluster.StartServer(t)
	}, harness.SQLite)
}

// TestWrongKey takes the key away, and puts another in its place: the server refuses to make a cluster that has an
// identity a new one, and serves again with the right key.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		server := cluster.StartServer(t)
		harness.NewNamespace(t, server.Client(t), "kept")
		server.Stop(t)

		file := cluster.KeyFile()
		key, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		harness.WriteKey(t, file)
		cluster.NewServer(t).Refuses(t, `(?i)key`)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		cluster.NewServer(t).Refuses(t, `(?i)key`)
		if err := os.WriteFile(file, []byte("not a key\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cluster.NewServer(t).Refuses(t, `(?i)key`)

		if err := os.WriteFile(file, key, 0o600); err != nil {
			t.Fatal(err)
		}
		server.Start(t)
		if _, err := server.Client(t).CoreV1().Namespaces().Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}, harness.SQLite, harness.OnPostgres)
}

// TestNewerSchema shows a server a database of a later release: it touches nothing and says what to do.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		server := cluster.StartServer(t)
		server.Stop(t)
		switch target {
		case harness.SQLite:
			execSQLite(t, cluster.SQLiteFile(), "INSERT INTO schema_migrations (version, name, applied) VALUES (9999, 'future', 0)")
		case harness.OnPostgres:
			cluster.Postgres.Exec(t, harness.Database, "INSERT INTO schema_version (version, name) VALUES (9999, 'future')")
		}
		cluster.NewServer(t).Refuses(t, `schema version 9999.*newer rowlock`)
		switch target {
		case harness.SQLite:
			execSQLite(t, cluster.SQLiteFile(), "DELETE FROM schema_migrations WHERE version = 9999")
		case harness.OnPostgres:
			cluster.Postgres.Exec(t, harness.Database, "DELETE FROM schema_version WHERE version = 9999")
		}
		server.Start(t)
	}, harness.SQLite, harness.OnPostgres)
}

// TestNotOurs points a server at a database that holds something else.
func TestNotOurs(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		switch target {
		case harness.SQLite:
			if err := os.MkdirAll(filepath.Dir(cluster.SQLiteFile()), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(cluster.SQLiteFile(), []byte("a letter, not a database, and long enough to be one\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cluster.NewServer(t).Refuses(t, `(?i)not a (rowlock )?database`)
			text, err := os.ReadFile(cluster.SQLiteFile())
			if err != nil || len(text) != 52 {
				t.Errorf("the file was changed: %q, %v", text, err)
			}
		case harness.OnPostgres:
			cluster.Postgres.Exec(t, harness.Database, "CREATE TABLE objects (id int)")
			cluster.NewServer(t).Refuses(t, `(?i)schema|not .*rowlock`)
		}
	}, harness.SQLite, harness.OnPostgres)
}

// TestUnreachablePostgres starts a server before its database.
func TestUnreachablePostgres(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		cluster.Postgres.Stop(t)
		server := cluster.NewServer(t)
		server.Refuses(t, `(?i)connection refused`)
		cluster.Postgres.Start(t)
		server.Start(t)
	}, harness.OnPostgres)
}

func execSQLite(t *testing.T, file, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
