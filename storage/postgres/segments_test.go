package postgres

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

// segments returns how many rows each partition of the log has.
func segments(t testing.TB, url string) map[string]int64 {
	t.Helper()
	conn := connect(t, url)
	out := map[string]int64{}
	rows, err := conn.Query(t.Context(), "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'changes'::regclass")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var n int64
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+name).Scan(&n); err != nil {
			t.Fatal(err)
		}
		out[name] = n
	}
	return out
}

func wantSegments(t testing.TB, what, url string, want map[string]int64) {
	t.Helper()
	if diff := cmp.Diff(want, segments(t, url)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

const rollNow = "SELECT rowlock_roll('0 s', 1)"

// TestSegments fills, rolls, compacts and moves, with two clusters of which one is kept long.
func TestSegments(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	d := b.database(t)
	chatty := storeOf(t, d)
	if err := d.CreateCluster(t.Context(), "quiet"); err != nil {
		t.Fatal(err)
	}
	quiet, err := d.OpenCluster(t.Context(), "quiet")
	if err != nil {
		t.Fatal(err)
	}
	write := func(s storage.Store, prefix string, n int) storage.Revision {
		ops := make([]storage.Op, n)
		for i := range ops {
			ops[i] = create(fmt.Sprintf("%s-%03d", prefix, i), "{}")
		}
		return mustCommit(t, s, ops...).Head
	}
	write(chatty, "a", 100)
	kept := write(quiet, "a", 3)
	exec(t, b.url, rollNow)
	exec(t, b.url, rollNow) // the newest is empty: nothing is due
	write(chatty, "b", 100)
	exec(t, b.url, rollNow)
	head := write(chatty, "c", 5)
	wantSegments(t, "rolled", b.url, map[string]int64{"changes_1": 103, "changes_2": 100, "changes_3": 5})
	log := names(t, quiet, 1)
	if got := names(t, chatty, 1); len(got) != 205 {
		t.Errorf("the log has %d changes over three segments, want 205", len(got))
	}

	if err := chatty.Compact(t.Context(), head); err != nil {
		t.Fatal(err)
	}
	wantSegments(t, "compacted", b.url, map[string]int64{"changes_1": 103, "changes_3": 5})

	// Few rows keep the first segment. They are moved once it is worth it, a few at a time, and then it goes.
	exec(t, b.url, "ANALYZE changes_1")
	for range 4 {
		exec(t, b.url, "SELECT rowlock_tidy(2, 1)")
	}
	wantSegments(t, "moved", b.url, map[string]int64{"changes_3": 8})
	if diff := cmp.Diff(log, names(t, quiet, 1)); diff != "" {
		t.Errorf("the log of the cluster that was moved (-before +after):\n%s", diff)
	}
	if obj, err := quiet.Get(t.Context(), key("a-001"), kept); err != nil || obj.Revision != kept-1 {
		t.Errorf("get at %d: %v, error %v", kept, obj, err)
	}

	// A dropped cluster holds nothing back, and leaves nothing.
	exec(t, b.url, rollNow)
	if err := d.DropCluster(t.Context(), "quiet"); err != nil {
		t.Fatal(err)
	}
	wantSegments(t, "dropped", b.url, map[string]int64{"changes_4": 0})
	var left int
	if err := connect(t, b.url).QueryRow(t.Context(), "SELECT (SELECT count(*) FROM objects) + (SELECT count(*) FROM clusters)").Scan(&left); err != nil || left != 206 {
		t.Errorf("%d objects and clusters are left (error %v), want 206", left, err)
	}
	if _, err := quiet.Head(t.Context()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("head of a dropped cluster: %v", err)
	}
}

// TestRollTogether lets several replicas begin a segment at once, while others write.
func TestRollTogether(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	s := b.Open(t)
	var all sync.WaitGroup
	for i := range 4 {
		d := openAt(t, b.url, func(c *Config) { c.SegmentAge = 1 })
		w := storeOf(t, d)
		all.Go(func() {
			for j := range 20 {
				if _, err := w.Commit(t.Context(), []storage.Op{create(fmt.Sprintf("%d-%d", i, j), "{}")}); err != nil {
					t.Error(err)
				}
				if j%5 == 0 {
					d.roll(t.Context())
				}
			}
		})
	}
	all.Wait()
	if got := names(t, s, 1); len(got) != 80 {
		t.Errorf("the log has %d changes, want 80", len(got))
	}
	if got := segments(t, b.url); len(got) < 2 {
		t.Errorf("no segment was begun: %v", got)
	}
}

// TestSegmentsBounded begins segments until it is refused: then the newest takes what comes.
func TestSegmentsBounded(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	s := b.Open(t)
	conn := connect(t, b.url)
	for i := range 70 {
		mustCommit(t, s, create(fmt.Sprint(i), "{}"))
		if _, err := conn.Exec(t.Context(), rollNow); err != nil {
			t.Fatal(err)
		}
	}
	rows := segments(t, b.url)
	if len(rows) != 64 || rows["changes_64"] != 7 {
		t.Errorf("%d segments, %d changes in the newest; want 64 and 7", len(rows), rows["changes_64"])
	}
	if got := names(t, s, 1); len(got) != 70 {
		t.Errorf("the log has %d changes, want 70", len(got))
	}
}
