package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// script runs SQL on the writer's connection.
func (b *backend) script(t *testing.T, sql string) {
	t.Helper()
	w := <-b.db.writing
	defer func() { b.db.writing <- w }()
	if err := w.script(sql); err != nil {
		t.Fatal(err)
	}
}

// TestFailedWrites has the writer fail in several ways: nothing of the commit may be seen, the reason has to be told, and once
// the cause is gone the next commit works.
func TestFailedWrites(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ cause, cure, words string }{
		"full":      {"PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", "full"},
		"read-only": {"PRAGMA query_only = ON", "PRAGMA query_only = OFF", "read-only"},
		// Half of the commit is written by then.
		"in the middle": {
			`CREATE TEMP TRIGGER fail BEFORE INSERT ON main.objects WHEN new.name = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END`,
			`DROP TRIGGER fail`, "bad",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, Config{FlushInterval: time.Hour})
			one, two := b.Open(t), b.Open(t)
			commit(t, one, op("before", false))
			held := commit(t, one, op("held", true))
			was := head(t, two)

			b.script(t, tc.cause)
			big := op("good", false)
			big.Data = fmt.Appendf(nil, `{"x":"%01000000d"}`, 0)
			_, err := one.Commit(t.Context(), []storage.Op{big, op("bad", false)})
			if err == nil || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("got %v, want an error that says %q", err, tc.words)
			}
			if name != "in the middle" && !errors.Is(err, storage.ErrBusy) {
				t.Errorf("got %v, want ErrBusy", err)
			}
			if now := head(t, two); now != was {
				t.Errorf("head is %v, was %v", now, was)
			}
			for _, key := range []string{"good", "bad"} {
				if _, err := two.Get(t.Context(), op(key, false).Key, 0); !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("get %s: %v", key, err)
				}
			}
			if obj, err := two.Get(t.Context(), op("held", true).Key, 0); err != nil || obj.Revision != held.Head {
				t.Errorf("the relaxed write is at %d (error %v)", obj.Revision, err)
			}

			b.script(t, tc.cure)
			if done := commit(t, two, big, op("bad", false)); done.Before != was {
				t.Errorf("the next commit began at %v, want %v", done.Before, was)
			}
			batch, err := one.Changes(t.Context(), 1, 0)
			if err != nil || len(batch.Changes) != 4 {
				t.Errorf("the log has %d changes (error %v), want 4", len(batch.Changes), err)
			}
		})
	}
}

// TestCompactionCutOff stops a compaction after it raised the floor, and a drop after it took the name away. The next compaction
// deletes what they left, in steps, and gives the space back.
func TestCompactionCutOff(t *testing.T) {
	t.Parallel()
	b := open(t, Config{})
	s := b.Open(t).(*Store)
	if err := b.db.CreateCluster(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	other, err := b.db.OpenCluster(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	var ops []storage.Op
	for i := range 2*dropRows + 500 {
		o := op(fmt.Sprint(i), false)
		o.Data = fmt.Appendf(nil, `{"x":"%02000d"}`, i)
		ops = append(ops, o)
	}
	commit(t, other, ops...)
	at := commit(t, s, ops...).Head
	pages := b.number(t, "PRAGMA page_count")

	if _, err := s.raiseFloor(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if err := b.db.forget(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	b.Crash(t)
	s = b.Open(t).(*Store)
	if _, err := s.Changes(t.Context(), at-1, 0); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("after the crash: got %v, want ErrCompacted", err)
	}
	if err := s.Compact(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]int64{"changes": 0, "objects": int64(len(ops)), "clusters": 1} {
		if got := b.number(t, "SELECT count(*) FROM "+table); got != want {
			t.Errorf("%d rows in %s, want %d", got, table, want)
		}
	}
	if now := b.number(t, "PRAGMA page_count"); now > pages*6/10 {
		t.Errorf("the file has %d pages, it had %d", now, pages)
	}
	if free := b.number(t, "PRAGMA freelist_count"); free > keepFree {
		t.Errorf("%d pages are free", free)
	}
	before := diskState(t, b)
	if err := s.Compact(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if after := diskState(t, b); after != before {
		t.Errorf("a compaction with nothing to do wrote:\n%s%s", before, after)
	}
}

func (b *backend) number(t *testing.T, sql string) int64 {
	t.Helper()
	w := <-b.db.writing
	defer func() { b.db.writing <- w }()
	n, err := (&migrator{w}).number(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
