package cache_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage/cache"
)

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// bytesOf are an entry's bytes, or why there are none.
func bytesOf(e *cache.Entry) string {
	data, err := e.Bytes()
	if err != nil {
		return err.Error()
	}
	return string(data)
}
