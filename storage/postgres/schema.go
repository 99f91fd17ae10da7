package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	migrations "github.com/rowlock-io/rowlock/migrations/postgres"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/migrate"
)

// migrationLock is the advisory lock that migrating processes take, for a transaction only.
const migrationLock = 7626911

func newestVersion() (int, error) {
	all, err := migrate.Load(migrations.Files)
	return len(all), err
}

func (d *Database) migrate(ctx context.Context) error {
	ctx, end, err := d.begin(ctx, "migrate")
	if err != nil {
		return err
	}
	defer end()
	return migrate.Run(ctx, migrations.Files, &migrator{d})
}

// migrator is the migrate.Driver.
type migrator struct{ d *Database }

func (m *migrator) Version(ctx context.Context) (version int, err error) {
	const what = "read schema version"
	var ours, taken bool
	err = m.d.query(ctx, what, func(c *pgxpool.Conn) error {
		return c.QueryRow(ctx, m.d.sql.SchemaTable, m.d.args()...).Scan(&ours, &taken)
	})
	switch {
	case err != nil:
		return 0, err
	case !ours && taken:
		return 0, fmt.Errorf("%s: %w: there are tables of another program: use a database of its own", what, storage.ErrSchema)
	case !ours:
		return 0, nil
	}
	err = m.d.query(ctx, what, func(c *pgxpool.Conn) error {
		return c.QueryRow(ctx, m.d.sql.SchemaVersion, m.d.args()...).Scan(&version)
	})
	return version, err
}

func (m *migrator) Exclusive(ctx context.Context, fn func(context.Context) error) error {
	const what = "lock schema"
	tx, err := m.d.pool.Begin(ctx)
	if err != nil {
		return m.d.translate(ctx, what, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", m.d.args(int64(migrationLock))...); err != nil {
		return m.d.translate(ctx, what, err)
	}
	return fn(ctx)
}

func (m *migrator) Apply(ctx context.Context, mig migrate.Migration) error {
	const what = "change schema"
	err := pgx.BeginFunc(ctx, m.d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS schema_version (
			version integer PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now())`, m.d.args()...); err != nil {
			return err
		}
		// The file has many statements, which only the simple protocol takes.
		if _, err := tx.Conn().PgConn().Exec(ctx, mig.SQL).ReadAll(); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO schema_version (version, name) VALUES ($1, $2)", m.d.args(mig.Version, mig.Name)...)
		return err
	})
	return m.d.translate(ctx, what, err)
}
