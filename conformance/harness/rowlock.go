package harness

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// onSQLite makes servers "rowlock up" on one data directory. Nothing acts on the cluster by itself, unless flags say
// otherwise: most tests are about the API alone.
func (c *Cluster) onSQLite(t testing.TB) {
	t.Helper()
	binary := Rowlock(t)
	data := filepath.Dir(c.SQLiteFile())
	c.newServer = func(t testing.TB, flags []string) *Server {
		return c.rowlock(t, binary, append([]string{"up", "--data-dir", data, "--agent=false", "--controllers=", "--scheduler=false"}, flags...))
	}
}

// onPostgres makes servers "rowlock server" on one database, with nothing that acts, as on SQLite.
func (c *Cluster) onPostgres(t testing.TB) {
	t.Helper()
	binary := Rowlock(t)
	c.Postgres = NewPostgres(t)
	database := c.Postgres.CreateDatabase(t, Database)
	WriteKey(t, c.KeyFile())
	c.newServer = func(t testing.TB, flags []string) *Server {
		return c.rowlock(t, binary, append([]string{
			"server", "--database", database, "--encryption-key-file", c.KeyFile(), "--controllers=", "--scheduler=false",
		}, flags...))
	}
}

// Database is the name of the database that the servers of a cluster on Postgres use.
const Database = "rowlock"

// SQLiteFile is the database of a cluster on SQLite.
func (c *Cluster) SQLiteFile() string { return filepath.Join(c.Dir, "data", "rowlock.db") }

// KeyFile is the file with the key that seals the cluster's identity. On SQLite the first start makes it.
func (c *Cluster) KeyFile() string {
	if c.Target == SQLite {
		return filepath.Join(c.Dir, "data", "encryption.key")
	}
	return filepath.Join(c.Dir, "encryption-key")
}

// WriteKey fills a key file with a new random key, in place of what was there.
func WriteKey(t testing.TB, file string) {
	t.Helper()
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rowlock describes a server with the arguments, on a port of its own.
func (c *Cluster) rowlock(t testing.TB, binary string, args []string) *Server {
	t.Helper()
	port := FreePort(t)
	file := func(kind string) string { return filepath.Join(c.Dir, fmt.Sprintf("rowlock-%d.%s", port, kind)) }
	kubeconfig := file("kubeconfig")
	bind := "127.0.0.1"
	if len(c.Within) > 0 {
		bind = "0.0.0.0"
	}
	args = append(args, "--bind-address", bind, "--secure-port", strconv.Itoa(port), "--write-kubeconfig", kubeconfig)
	return newServer(t, port, kubeconfig, file("log"), func() *exec.Cmd {
		line := append(append(slices.Clone(c.Within), binary), args...)
		cmd := exec.Command(line[0], line[1:]...)
		cmd.Dir = c.Dir
		cmd.Env = append(os.Environ(), "HOME="+c.Dir, "KUBECONFIG=") // nothing of the person who runs the tests is touched
		return cmd
	})
}
