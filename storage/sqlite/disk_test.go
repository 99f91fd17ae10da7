package sqlite

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// TestIdleWritesNothing reads in every way and looks at the files.
func TestIdleWritesNothing(t *testing.T) {
	t.Parallel()
	b := open(t, Config{FlushInterval: time.Millisecond})
	s := b.Open(t)
	commit(t, s, op("a", false))
	at := commit(t, s, op("b", false)).Head
	before := diskState(t, b)
	for range 3 {
		for _, call := range []func() error{
			func() error { return s.Ready(t.Context()) },
			func() error { return b.db.Ready(t.Context()) },
			func() error { return s.Compact(t.Context(), 1) },
			func() error { _, err := s.Get(t.Context(), op("a", false).Key, at-1); return err },
			func() error {
				_, err := s.List(t.Context(), storage.Selector{}, storage.ListOptions{Revision: at - 1})
				return err
			},
			func() error { _, err := s.Changes(t.Context(), 1, 0); return err },
			func() error { _, err := s.Horizon(t.Context(), time.Hour, 1<<30); return err },
			func() error { _, err := b.db.OpenCluster(t.Context(), clusterName); return err },
			func() error { // refused, so nothing to write
				done, err := s.Commit(t.Context(), []storage.Op{op("a", false)})
				if err == nil && done.Results[0].Err == nil {
					t.Error("made again")
				}
				return err
			},
		} {
			if err := call(); err != nil {
				t.Error(err)
			}
		}
		w := <-b.db.writing
		if err := b.db.flushAll(w); err != nil {
			t.Error(err)
		}
		b.db.writing <- w
	}
	if after := diskState(t, b); after != before {
		t.Errorf("something was written:\n%s%s", before, after)
	}
}

// TestWALIsBounded writes several times what the write-ahead log may hold.
func TestWALIsBounded(t *testing.T) {
	t.Parallel()
	b := open(t, Config{})
	s := b.Open(t)
	padding := strings.Repeat("x", 64<<10)
	const bound = 32 << 20
	written := 0
	for i := 0; written < 2*bound; i++ {
		var ops []storage.Op
		for j := range 16 {
			o := op(fmt.Sprintf("%d-%d", i, j), false)
			o.Data = []byte(`"` + padding + `"`)
			written += 2 * len(o.Data) // it is in objects and in changes
			ops = append(ops, o)
		}
		commit(t, s, ops...)
		info, err := os.Stat(b.cfg.Path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > bound {
			t.Fatalf("after %d bytes the write-ahead log has %d, want at most %d", written, info.Size(), bound)
		}
	}
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.cfg.Path + "-wal"); !os.IsNotExist(err) {
		t.Errorf("a clean stop left the write-ahead log behind: %v", err)
	}
}
