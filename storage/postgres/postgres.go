// Package postgres keeps clusters in a Postgres database (13 or newer) through pgx.
//
// A commit is one call of one function, which orders a cluster's writes by the row lock on its counter; see
// migrations/postgres/00001_init.sql for why commit order is revision order, and for what happens when the server
// comes back from a crash. No call relies on anything that outlives a transaction, so a pooler in transaction mode may
// stand in between; LISTEN, which such poolers do not carry, only makes wake-ups quicker. No pgx type leaves the package.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowlock-io/rowlock/storage"
)

// Config says where the database is and how to use it. Zero values mean the defaults.
type Config struct {
	// URL is a Postgres address as libpq knows it: postgres://user:password@host:port/database?sslmode=…
	// With a pooler that cannot prepare statements, add default_query_exec_mode=exec.
	URL string
	// MaxConns bounds the connections of this process; 10. One more listens for wake-ups.
	MaxConns int32
	// PollInterval is how late a foreign commit may be seen when notifications do not arrive, or twice as late when they
	// have been arriving and one is lost; 1 s.
	PollInterval time.Duration
	// LockTimeout is how long a commit waits for its turn before it answers ErrBusy; 5 s.
	LockTimeout time.Duration
	// NoListen leaves wake-ups to the poll alone.
	NoListen bool
	// SegmentAge and SegmentBytes bound a partition of the log, which is the unit in which compaction frees space;
	// 1 h and 256 MiB. They grow by themselves when much history is kept.
	SegmentAge   time.Duration
	SegmentBytes int64
	Log          *slog.Logger // nil: silent

	tracer pgx.QueryTracer // sees every statement; for tests
}

func (c Config) withDefaults() Config {
	c.MaxConns = max(cmp.Or(c.MaxConns, 10), 2)
	c.PollInterval = cmp.Or(c.PollInterval, time.Second)
	c.LockTimeout = cmp.Or(c.LockTimeout, 5*time.Second)
	c.SegmentAge = cmp.Or(c.SegmentAge, time.Hour)
	c.SegmentBytes = cmp.Or(c.SegmentBytes, 256<<20)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Database is one process's handle on a database.
type Database struct {
	cfg  Config
	log  *slog.Logger
	pool *pgxpool.Pool
	sql  *statements
	id   string // names this process in notifications

	// closing ends when Close is called, and with it every call that is under way.
	closing context.Context
	close   context.CancelFunc
	running sync.WaitGroup // the goroutines of wake.go

	stores   registry
	news     news
	audience audience
	tidying  sync.Mutex
	tidied   time.Time // guarded by tidying

	// hears is set while notifications are known to arrive.
	hears atomic.Bool
	// unprepared is set once a pooler turned out to lose prepared statements.
	unprepared atomic.Bool
}

var _ storage.Database = (*Database)(nil)

// Open connects, brings the schema up to date and starts to watch for other processes' commits. ErrBusy means that the
// database cannot be used at the moment, ErrSchema that it is not one for this binary.
func Open(ctx context.Context, cfg Config) (*Database, error) {
	d, err := newDatabase(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := d.migrate(ctx); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := d.Ready(ctx); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	d.running.Go(d.pollLoop)
	d.running.Go(d.notifyLoop)
	if !cfg.NoListen {
		d.running.Go(d.listenLoop)
	}
	return d, nil
}

// Migrate brings the schema up to date and does nothing else.
func Migrate(ctx context.Context, cfg Config) error {
	d, err := newDatabase(ctx, cfg)
	if err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	defer func() { _ = d.Close() }()
	return d.migrate(ctx)
}

func newDatabase(ctx context.Context, cfg Config) (*Database, error) {
	cfg = cfg.withDefaults()
	sql, err := loadStatements(queries)
	if err != nil {
		return nil, err
	}
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("database address: %s", err) // its text hides the password
	}
	pc.MaxConns = cfg.MaxConns
	// A connection is not asked whether it lives before it is used: that would double the queries of an idle server,
	// and every call copes with one that does not.
	pc.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	if pc.ConnConfig.ConnectTimeout == 0 {
		pc.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	if pc.ConnConfig.ValidateConnect == nil {
		// Among several hosts, the one that takes writes.
		pc.ConnConfig.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
			if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn); err != nil {
				return fmt.Errorf("%w: %w", errReadOnly, err)
			}
			return nil
		}
	}
	if pc.ConnConfig.RuntimeParams["application_name"] == "" {
		pc.ConnConfig.RuntimeParams["application_name"] = "rowlock"
	}
	pc.ConnConfig.Tracer = cfg.tracer
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("database address: %s", err)
	}
	d := &Database{cfg: cfg, log: cfg.Log, pool: pool, sql: sql, id: fmt.Sprintf("%016x", rand.Uint64())}
	d.closing, d.close = context.WithCancel(context.WithoutCancel(ctx))
	d.news.kick = make(chan struct{}, 1)
	return d, nil
}

var errReadOnly = errors.New("this server does not take writes")

// begin ties a call to its context and to Close. end must be called.
func (d *Database) begin(ctx context.Context, what string) (_ context.Context, end func(), err error) {
	if d.closing.Err() != nil {
		return nil, nil, fmt.Errorf("%s: %w", what, storage.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, ended(ctx, what)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(d.closing, func() { cancel(storage.ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }, nil
}

// args puts the way to execute a statement before its arguments.
func (d *Database) args(args ...any) []any {
	if !d.unprepared.Load() {
		return args
	}
	return append([]any{pgx.QueryExecModeExec}, args...)
}

// Ready tells whether the database is reachable, takes writes, and has the schema of this binary.
func (d *Database) Ready(ctx context.Context) error {
	const what = "ready"
	ctx, end, err := d.begin(ctx, what)
	if err != nil {
		return err
	}
	defer end()
	var version int
	var readOnly bool
	var isolation, encoding string
	err = d.query(ctx, what, func(c *pgxpool.Conn) error {
		return c.QueryRow(ctx, d.sql.Ready, d.args()...).Scan(&version, &readOnly, &isolation, &encoding)
	})
	if err != nil {
		return err
	}
	switch newest, err := newestVersion(); {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case version != newest:
		return fmt.Errorf("%s: %w: the database has schema version %d, this binary needs %d", what, storage.ErrSchema, version, newest)
	case readOnly:
		return fmt.Errorf("%s: %w: the database takes no writes: connect to the primary", what, storage.ErrBusy)
	case isolation != "read committed":
		return fmt.Errorf("%s: %w: default_transaction_isolation is %q: set it to read committed for this user or database", what, storage.ErrSchema, isolation)
	case encoding != "UTF8":
		return fmt.Errorf("%s: %w: the database's encoding is %s: create one with ENCODING 'UTF8'", what, storage.ErrSchema, encoding)
	}
	return nil
}

// Close ends every call that is under way and closes all connections.
func (d *Database) Close() error {
	d.close()
	d.running.Wait()
	d.pool.Close()
	return nil
}
