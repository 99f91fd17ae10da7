package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowlock-io/rowlock/storage"
)

// verdict says what an SQLSTATE means to callers, and what an operator can do about it.
type verdict struct {
	kind error // nil: unexpected, the text of the database is all there is to say
	hint string
}

// judgeCode knows errors by their SQLSTATE, never by their text.
func judgeCode(code string) verdict {
	if v, ok := map[string]verdict{
		"25006": {storage.ErrBusy, "the database takes no writes: connect to the primary"},
		"40001": {storage.ErrBusy, "the database asks to try again"},
		"40P01": {storage.ErrBusy, "the database asks to try again"},
		"42501": {storage.ErrSchema, "the database user lacks a privilege: let it own the database"},
		"53100": {storage.ErrBusy, "the database's disk is full: make room there"},
		"53200": {storage.ErrBusy, "the database is out of memory"},
		"53300": {storage.ErrBusy, "the database has no connection left: raise max_connections or lower the servers' limits"},
		"53400": {storage.ErrBusy, "the database reached a limit of its configuration"},
		"55P03": {storage.ErrBusy, "another write held the cluster for too long: look for long transactions in pg_stat_activity"},
		"57014": {storage.ErrBusy, "the database cancelled the statement: see statement_timeout"},
		"57P01": {storage.ErrBusy, "the database is shutting down"},
		"57P02": {storage.ErrBusy, "the database is recovering from a crash"},
		"57P03": {storage.ErrBusy, "the database is starting or stopping"},
		"57P05": {storage.ErrBusy, "the database closed an idle connection"},
		"28000": {storage.ErrBusy, "the database refused the user: check name, password and pg_hba.conf"},
		"28P01": {storage.ErrBusy, "the database refused the password"},
		"3D000": {storage.ErrBusy, "there is no such database: create it"},
		"42P01": {storage.ErrSchema, "a table is missing: the schema was changed by somebody else"},
		"42703": {storage.ErrSchema, "a column is missing: the schema was changed by somebody else"},
		"42883": {storage.ErrSchema, "a function is missing: the schema was changed by somebody else"},
	}[code]; ok {
		return v
	}
	switch code[:min(2, len(code))] {
	case "08":
		return verdict{storage.ErrBusy, "the connection to the database broke"}
	case "53":
		return verdict{storage.ErrBusy, "the database is short of resources"}
	case "58":
		return verdict{storage.ErrBusy, "the database's machine has a fault: see its log"}
	}
	return verdict{}
}

// translate turns what pgx returns into this package's errors; nil stays nil. Texts are kept, types are not.
func (d *Database) translate(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ended(ctx, what)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if errors.Is(err, errReadOnly) {
		return fmt.Errorf("%s: %w: %w", what, storage.ErrBusy, &storage.Hint{Words: "the database takes no writes: connect to the primary", Detail: err.Error()})
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		v := judgeCode(pg.Code)
		if v.kind == nil {
			return fmt.Errorf("%s: %s", what, pg.Error())
		}
		return fmt.Errorf("%s: %w: %w", what, v.kind, &storage.Hint{Words: v.hint, Detail: pg.Error()})
	}
	if lost(err) {
		return fmt.Errorf("%s: %w: %w", what, storage.ErrBusy, &storage.Hint{Words: "the database cannot be reached: check that it runs and its address", Detail: err.Error()})
	}
	return fmt.Errorf("%s: %s", what, err)
}

// ended is the error of a call whose context ended, by its caller or by Close.
func ended(ctx context.Context, what string) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, storage.ErrClosed) || errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%s: %w", what, cause)
	}
	return fmt.Errorf("%s: %w: %w", what, ctx.Err(), cause)
}

// lost tells whether the error ended the connection, or none could be had. What the server says of a statement on a
// connection that goes on is not among them.
func lost(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return !said(pg)
	}
	return err != nil && !errors.Is(err, pgx.ErrNoRows) && !errors.Is(err, storage.ErrNotFound)
}

// said tells whether the server refused a statement and undid it. FATAL and PANIC end the connection, and then the
// transaction may have been committed before.
func said(pg *pgconn.PgError) bool {
	severity := pg.SeverityUnlocalized
	if severity == "" {
		severity = pg.Severity
	}
	return severity == "ERROR"
}

func code(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
