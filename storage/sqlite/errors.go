package sqlite

import (
	"context"
	"errors"
	"fmt"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/rowlock-io/rowlock/storage"
)

// explain turns an error of SQLite into one of package storage, by its result code. What the operator can do about is
// said in words.
func explain(what string, err error) error {
	var se sqlite3.Error
	if !errors.As(err, &se) {
		return fmt.Errorf("%s: %w", what, err)
	}
	var words string
	switch se.Code {
	case sqlite3.ErrInterrupt:
		return fmt.Errorf("%s: %w", what, context.Canceled)
	case sqlite3.ErrFull:
		words = "the disk that holds the database is full; free some space"
	case sqlite3.ErrReadonly:
		words = "the database file or its directory is read-only"
	case sqlite3.ErrIoErr:
		words = "the disk that holds the database reports an error"
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		words = "the file is damaged or is not a SQLite database; restore it from a backup"
	case sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrProtocol:
		words = "another program keeps the database locked"
	case sqlite3.ErrCantOpen:
		words = "the database file cannot be opened or made"
	case sqlite3.ErrPerm, sqlite3.ErrAuth:
		words = "access to the database file is denied"
	case sqlite3.ErrNomem:
		words = "out of memory"
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, storage.ErrBusy, &storage.Hint{Words: words, Detail: err.Error()})
}

// explainCommit is explain for COMMIT itself. When the disk failed to confirm what was written, nobody can tell
// whether it would be found after a crash.
func explainCommit(err error) error {
	var se sqlite3.Error
	if errors.As(err, &se) && (se.ExtendedCode == sqlite3.ErrIoErrFsync || se.ExtendedCode == sqlite3.ErrIoErrDirFsync) {
		return fmt.Errorf("commit: %w: the disk did not confirm the write: %w", storage.ErrUnknown, err)
	}
	return explain("commit", err)
}
