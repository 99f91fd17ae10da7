package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/migrate"
)

// migrator runs migrations on the writer's connection. Its statements are not in queries.sql, because those are
// checked against the schema that it makes.
type migrator struct{ w *conn }

var _ migrate.Driver = (*migrator)(nil)

// Version tells an empty file from a foreign one.
func (m *migrator) Version(ctx context.Context) (int, error) {
	ours, err := m.number(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations'`)
	if err != nil {
		return 0, err
	}
	if ours == 0 {
		tables, err := m.number(ctx, `SELECT count(*) FROM sqlite_schema`)
		if err == nil && tables > 0 {
			err = fmt.Errorf("%w: the file holds tables of another program", storage.ErrSchema)
		}
		return 0, err
	}
	v, err := m.number(ctx, `SELECT coalesce(max(version), 0) FROM schema_migrations`)
	return int(v), err
}

func (m *migrator) number(ctx context.Context, sql string) (int64, error) {
	s, err := m.w.c.Prepare(sql)
	if err != nil {
		return 0, explain("read the schema", err)
	}
	defer func() { _ = s.Close() }()
	r, err := s.(driver.StmtQueryContext).QueryContext(ctx, nil)
	if err != nil {
		return 0, explain("read the schema", err)
	}
	defer func() { _ = r.Close() }()
	dest := make([]driver.Value, 1)
	if err := r.Next(dest); err != nil {
		return 0, explain("read the schema", err)
	}
	return integer(dest[0]), nil
}

// Exclusive has nothing to do: the lock on the file beside the database already keeps other processes out.
func (m *migrator) Exclusive(ctx context.Context, fn func(context.Context) error) error {
	return fn(ctx)
}

// Apply runs one migration in one transaction.
func (m *migrator) Apply(_ context.Context, mig migrate.Migration) error {
	err := m.w.script(`BEGIN IMMEDIATE;
		CREATE TABLE IF NOT EXISTS schema_migrations (
			version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied INTEGER NOT NULL) STRICT;` + mig.SQL)
	if err == nil {
		_, err = m.w.c.Exec(`INSERT INTO schema_migrations (version, name, applied) VALUES (?, ?, ?)`,
			[]driver.Value{int64(mig.Version), mig.Name, time.Now().UnixMicro()})
	}
	if err == nil {
		err = m.w.script(`COMMIT`)
	}
	if err != nil {
		m.w.rollback()
		return explain("run SQL", err)
	}
	return nil
}
