// Package sqlite keeps clusters in one SQLite file that belongs to one process at a time.
//
// One connection writes, in immediate transactions, and a few others read; the write-ahead log lets them go on at the same
// time. Revisions are handed out by the one writer, so commit order is revision order. Relaxed writes are held in
// memory, visible to every read, until the next durable commit or the flush interval takes them to the disk.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rowlock-io/rowlock/migrations/sqlite"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/migrate"
)

// Config says which file to open and how. Zero values mean the defaults.
type Config struct {
	Path          string        // the database file; made, with its directory, when there is none
	Readers       int           // connections that read; 4. They are opened when first needed
	FlushInterval time.Duration // how long a relaxed write may stay in memory; 60 s
	Log           *slog.Logger  // nil: silent
}

// Database is an open file. It is safe for concurrent use.
type Database struct {
	cfg    Config
	st     *statements
	count  int // of statements
	lock   *os.File
	closed chan struct{}

	writing chan *conn // of one: the writer, while nobody has it
	readers chan *conn // of cfg.Readers: idle readers; nil stands for one that is not open

	mu       sync.Mutex
	clusters map[string]*cluster // those opened so far
	flushing *time.Timer         // armed while a relaxed write waits

	closing  sync.Once
	closeErr error

	// beforeCommit runs just before a transaction becomes visible. Tests park writers in it.
	beforeCommit func()
}

var _ storage.Database = (*Database)(nil)

// Open opens the file, brings its schema up to date, and recovers from an unclean stop. It returns ErrInUse, with a
// message that names the file, when another process has it, and ErrSchema when a newer rowlock wrote it.
func Open(ctx context.Context, cfg Config) (*Database, error) {
	if cfg.Readers <= 0 {
		cfg.Readers = 4
	}
	if cfg.FlushInterval <= 0 {
		cfg.FlushInterval = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	st, count, err := loadStatements(queries)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("sqlite: make the directory of the database: %w", err)
	}
	lock, err := lockFile(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	d := &Database{
		cfg: cfg, st: st, count: count, lock: lock,
		closed:   make(chan struct{}),
		writing:  make(chan *conn, 1),
		readers:  make(chan *conn, cfg.Readers),
		clusters: map[string]*cluster{},
	}
	if err := d.start(ctx); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	return d, nil
}

func (d *Database) start(ctx context.Context) error {
	// Secrets live in it: nobody else may read it, whatever the umask. SQLite gives -wal and -shm the same mode.
	f, err := os.OpenFile(d.cfg.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	_ = f.Close()
	w, err := openConn(d.cfg.Path, writerPragmas, d.count)
	if err != nil {
		return err
	}
	err = migrate.Run(ctx, sqlite.Files, &migrator{w})
	if err == nil {
		err = d.recoverLost(ctx, w)
	}
	if err != nil {
		_ = w.close()
		return err
	}
	d.writing <- w
	for range d.cfg.Readers {
		d.readers <- nil
	}
	return nil
}

// recoverLost starts a new epoch in every cluster that was not closed cleanly after relaxed writes.
func (d *Database) recoverLost(ctx context.Context, w *conn) error {
	r, err := w.query(ctx, d.st.Lost)
	if err != nil {
		return explain("look for an unclean stop", err)
	}
	var names []string
	for {
		ok, err := r.next()
		if err != nil {
			r.close()
			return explain("look for an unclean stop", err)
		}
		if !ok {
			break
		}
		names = append(names, text(r.dest[0]))
	}
	r.close()
	if len(names) == 0 {
		return nil // and nothing is written
	}
	d.cfg.Log.Warn("Database was not closed cleanly, relaxed writes may be lost", "clusters", names)
	if _, err := w.exec(d.st.Recover); err != nil {
		return explain("recover from an unclean stop", err)
	}
	return nil
}

// Ready reads from the database.
func (d *Database) Ready(ctx context.Context) error {
	_, err := d.Clusters(ctx)
	return err
}

// Close writes what is only in memory, and closes the file. When that fails the error says so, and relaxed writes may be lost.
func (d *Database) Close() error {
	d.closing.Do(func() {
		close(d.closed)
		w := <-d.writing // whoever writes gets done
		d.stopTimer()
		d.closeErr = errors.Join(d.flushAll(w), d.release(w))
		d.closeErr = errors.Join(d.closeErr, d.closeConns(w), d.lock.Close())
	})
	return d.closeErr
}

func (d *Database) closeConns(w *conn) error {
	var errs []error
	for range d.cfg.Readers {
		if r := <-d.readers; r != nil {
			errs = append(errs, r.close())
		}
	}
	return errors.Join(append(errs, w.close())...) // the writer last: it checkpoints, and removes the write-ahead log
}
