package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/rowlock-io/rowlock/storage"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code  sqlite3.ErrNo
		want  error
		words string
	}{
		{sqlite3.ErrFull, storage.ErrBusy, "full"},
		{sqlite3.ErrReadonly, storage.ErrBusy, "read-only"},
		{sqlite3.ErrIoErr, storage.ErrBusy, "reports an error"},
		{sqlite3.ErrCorrupt, storage.ErrBusy, "damaged"},
		{sqlite3.ErrBusy, storage.ErrBusy, "another program"},
		{sqlite3.ErrCantOpen, storage.ErrBusy, "cannot be opened"},
		{sqlite3.ErrInterrupt, context.Canceled, ""},
	} {
		cause := sqlite3.Error{Code: tc.code}
		err := explain("write", fmt.Errorf("statement: %w", cause))
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%v: got %q, want %v with %q", tc.code, err, tc.want, tc.words)
		}
	}
	if err := explain("write", sqlite3.Error{Code: sqlite3.ErrConstraint}); errors.Is(err, storage.ErrBusy) {
		t.Errorf("a fault of ours counts as busy: %v", err)
	}
	// Only the COMMIT itself may have an outcome that nobody knows.
	unsure := sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrFsync}
	if err := explainCommit(unsure); !errors.Is(err, storage.ErrUnknown) || errors.Is(err, storage.ErrBusy) {
		t.Errorf("a failed fsync: got %v, want ErrUnknown", err)
	}
	if err := explainCommit(sqlite3.Error{Code: sqlite3.ErrFull}); !errors.Is(err, storage.ErrBusy) {
		t.Errorf("a full disk: got %v, want ErrBusy", err)
	}
}
