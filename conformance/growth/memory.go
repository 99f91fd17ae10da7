package growth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// memory is what a server has, in bytes: in the system's eyes, and what of Go's heap was in use after a collection.
type memory struct {
	harness.Usage
	heap float64
	peak float64 // resident, ever
}

// memory looks at a server twice: as it is, and after a collection.
func (c *client) memory(ctx context.Context, pid int) (memory, error) {
	u, err := harness.Measure([]int{pid})
	if err != nil {
		return memory{}, err
	}
	m := memory{Usage: u}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err := fmt.Sscan(rest, &m.peak); err != nil {
				return m, err
			}
			m.peak *= 1024
		}
	}
	profile, err := c.do(ctx, 0, http.MethodGet, "/debug/pprof/heap?debug=1&gc=1", nil)
	if err != nil {
		return m, err
	}
	_, rest, ok := bytes.Cut(profile, []byte("\n# HeapAlloc = "))
	if !ok {
		return m, errors.New("the heap's profile does not tell its size")
	}
	_, err = fmt.Fscan(bytes.NewReader(rest), &m.heap)
	return m, err
}

// profile writes the heap's profile, when there is a directory for it.
func (c *client) profile(ctx context.Context, dir, name string) error {
	if dir == "" {
		return nil
	}
	data, err := c.do(ctx, 0, http.MethodGet, "/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".pprof"), data, 0o600)
}

// databaseBytes is what the cluster's database takes on disk.
func databaseBytes(ctx context.Context, c *harness.Cluster) (float64, error) {
	if c.Target == harness.OnPostgres {
		return postgresBytes(ctx, c)
	}
	sum := 0.0
	err := filepath.WalkDir(filepath.Dir(c.SQLiteFile()), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			sum += float64(info.Size())
		}
		return err
	})
	return sum, err
}

func postgresBytes(ctx context.Context, c *harness.Cluster) (size float64, err error) {
	conn, err := pgx.Connect(ctx, c.Postgres.URL(harness.Database))
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&size)
	return size, errors.Join(err, conn.Close(ctx))
}
