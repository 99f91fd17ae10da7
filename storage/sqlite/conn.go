package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// conn is one connection with its prepared statements. One goroutine uses it at a time. It talks to the driver
// itself: database/sql would cost as much again as SQLite does for statements as small as ours.
type conn struct {
	c        *sqlite3.SQLiteConn
	prepared []*sqlite3.SQLiteStmt
	args     []driver.NamedValue
}

// pragmas that every connection needs, and those of one kind. The order matters: auto_vacuum only takes effect before
// the file has its first page.
var (
	writerPragmas = []string{
		"PRAGMA auto_vacuum = INCREMENTAL",
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = FULL", // a commit is on disk when it returns
		"PRAGMA busy_timeout = 5000",
		"PRAGMA temp_store = MEMORY",
		"PRAGMA cache_size = -16384",
		"PRAGMA wal_autocheckpoint = 4096",
		// The file shrinks to this after a burst; without it, it keeps its greatest size for ever.
		"PRAGMA journal_size_limit = 33554432",
	}
	readerPragmas = []string{
		"PRAGMA query_only = ON",
		"PRAGMA busy_timeout = 5000",
		"PRAGMA temp_store = MEMORY",
		"PRAGMA cache_size = -4096",
	}
)

func openConn(path string, pragmas []string, statements int) (*conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// A file: URI, so that any character may be in the path. Never cache=shared: its locks work by table and fail
	// readers at once. The mutexes are left out because a connection has one user.
	dsn := "file:" + strings.ReplaceAll(url.PathEscape(abs), "%2F", "/") + "?_mutex=no&cache=private"
	raw, err := (&sqlite3.SQLiteDriver{}).Open(dsn)
	if err != nil {
		return nil, explain("open "+path, err)
	}
	c := &conn{c: raw.(*sqlite3.SQLiteConn), prepared: make([]*sqlite3.SQLiteStmt, statements)}
	for _, p := range pragmas {
		if err := c.script(p); err != nil {
			_ = c.close()
			return nil, explain("open "+path, err)
		}
	}
	return c, nil
}

// script runs SQL text of any number of statements.
func (c *conn) script(sql string) error {
	_, err := c.c.Exec(sql, nil)
	return err
}

func (c *conn) prepare(st *statement) (*sqlite3.SQLiteStmt, error) {
	if s := c.prepared[st.index]; s != nil {
		return s, nil
	}
	s, err := c.c.Prepare(st.sql)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", st.name, err)
	}
	c.prepared[st.index] = s.(*sqlite3.SQLiteStmt)
	return c.prepared[st.index], nil
}

// bind makes arguments of values; these must be int64, string, []byte or nil.
func (c *conn) bind(values []driver.Value) []driver.NamedValue {
	c.args = c.args[:0]
	for i, v := range values {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return c.args
}

// exec runs a statement that returns no rows, to its end, and tells how many rows it changed.
func (c *conn) exec(st *statement, values ...driver.Value) (int64, error) {
	s, err := c.prepare(st)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(context.Background(), c.bind(values)) // a write is never cut in the middle
	if err != nil {
		return 0, fmt.Errorf("%s: %w", st.name, err)
	}
	return res.RowsAffected()
}

// rows is a statement's result, read row by row.
type rows struct {
	st   *statement
	rows driver.Rows
	dest []driver.Value
}

func (c *conn) query(ctx context.Context, st *statement, values ...driver.Value) (*rows, error) {
	s, err := c.prepare(st)
	if err != nil {
		return nil, err
	}
	r, err := s.QueryContext(ctx, c.bind(values))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", st.name, err)
	}
	return &rows{st: st, rows: r, dest: make([]driver.Value, len(r.Columns()))}, nil
}

// next reads the next row into dest; false at the end.
func (r *rows) next() (bool, error) {
	switch err := r.rows.Next(r.dest); {
	case err == nil:
		return true, nil
	case errors.Is(err, io.EOF):
		return false, nil
	default:
		return false, fmt.Errorf("%s: %w", r.st.name, err)
	}
}

func (r *rows) close() { _ = r.rows.Close() } // next has told the error

// one reads the first row of a statement into dest; false when there is none.
func (c *conn) one(ctx context.Context, dest []driver.Value, st *statement, values ...driver.Value) (bool, error) {
	s, err := c.prepare(st)
	if err != nil {
		return false, err
	}
	r, err := s.QueryContext(ctx, c.bind(values))
	if err != nil {
		return false, fmt.Errorf("%s: %w", st.name, err)
	}
	defer func() { _ = r.Close() }()
	switch err := r.Next(dest); {
	case err == nil:
		return true, nil
	case errors.Is(err, io.EOF):
		return false, nil
	default:
		return false, fmt.Errorf("%s: %w", st.name, err)
	}
}

func (c *conn) close() error {
	for i, s := range c.prepared {
		if s != nil {
			_ = s.Close()
			c.prepared[i] = nil
		}
	}
	return c.c.Close()
}
