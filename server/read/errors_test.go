package read

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rowlock-io/rowlock/storage"
)

// TestDatabaseIsNotNamedToTenants: what a read says while the database is away is for people who are not its operators.
func TestDatabaseIsNotNamedToTenants(t *testing.T) {
	t.Parallel()
	said := errors.New("failed to connect to `user=postgres database=rowlock`: 10.0.0.7:5432")
	hint := &storage.Hint{Words: "the database cannot be reached", Detail: said.Error()}
	for name, err := range map[string]error{
		"with a hint": fmt.Errorf("head: %w: %w", storage.ErrBusy, hint),
		"without one": fmt.Errorf("head: %w: %w", storage.ErrBusy, said),
		"closed":      fmt.Errorf("%w: %w", storage.ErrClosed, said),
	} {
		got := apiError(err)
		if !apierrors.IsServiceUnavailable(got) {
			t.Errorf("%s: %v", name, got)
		}
		if strings.Contains(got.Error(), "postgres") || strings.Contains(got.Error(), "10.0.0.7") {
			t.Errorf("%s: a client is told %q", name, got)
		}
	}
	if got := apiError(fmt.Errorf("head: %w: %w", storage.ErrBusy, hint)); !strings.Contains(got.Error(), hint.Words) {
		t.Errorf("a client is not told what is wrong: %q", got)
	}
}
