package postgres

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowlock-io/rowlock/storage"
)

// counter counts the statements of a Database.
type counter struct{ n atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// silent polls only when the test says so, and does not listen.
func silent(c *Config) {
	c.PollInterval = time.Hour
	c.NoListen = true
}

// TestRoundTrips counts statements: a commit is one, and so is what an idle process asks in an interval, however many
// clusters it has open.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	var count counter
	d := openAt(t, b.url, silent, func(c *Config) { c.tracer = &count })
	expect := func(what string, want int64, call func() error) {
		t.Helper()
		before := count.n.Load()
		if err := call(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := count.n.Load() - before; got != want {
			t.Errorf("%s took %d statements, want %d", what, got, want)
		}
	}
	expect("poll with nothing open", 0, func() error { return d.poll(t.Context()) })
	s := storeOf(t, d)
	if err := d.CreateCluster(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.OpenCluster(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	expect("poll", 1, func() error { return d.poll(t.Context()) })
	expect("head", 1, func() error { _, err := s.Head(t.Context()); return err })
	expect("get", 1, func() error { _, _ = s.Get(t.Context(), key("a"), 0); return nil })
	expect("list", 1, func() error {
		_, err := s.List(t.Context(), storage.Selector{}, storage.ListOptions{Limit: 1})
		return err
	})
	expect("changes", 1, func() error { _, err := s.Changes(t.Context(), 1, 10); return err })
	expect("commit", 1, func() error {
		done, err := s.commit(t.Context(), "commit", newRequest([]storage.Op{create("a", "{}"), create("b", "{}")}))
		s.own(done)
		return err
	})
	expect("poll after its own commit", 1, func() error { return d.poll(t.Context()) })
	if woken(s) {
		t.Error("its own commit woke it")
	}
}

func woken(s storage.Store) bool {
	select {
	case <-s.Wake():
		return true
	default:
		return false
	}
}

func TestWhoIsWoken(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	d := openAt(t, b.url, silent)
	own, sibling := storeOf(t, d), storeOf(t, d)
	foreign := storeOf(t, openAt(t, b.url, silent))
	poll := func() {
		t.Helper()
		if err := d.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	mustCommit(t, own, create("a", "{}"))
	if woken(own) || !woken(sibling) {
		t.Error("a commit must wake the other handles of its process, and not its own")
	}
	poll()
	if woken(own) || woken(sibling) {
		t.Error("the poll told what everybody knew")
	}
	mustCommit(t, foreign, create("b", "{}"))
	poll()
	if !woken(own) || !woken(sibling) {
		t.Error("the poll missed another process's commit")
	}
	mustCommit(t, foreign, create("c", "{}"))
	mustCommit(t, own, create("d", "{}"))
	if !woken(own) {
		t.Error("a commit that came after another process's did not tell of it")
	}
	woken(sibling)
	poll()
	if woken(own) {
		t.Error("the poll told it again")
	}
}

func TestHeard(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	d := openAt(t, b.url, silent)
	s := storeOf(t, d)
	mustCommit(t, s, create("a", "{}"))
	id := s.id
	for _, tc := range []struct {
		payload string
		want    bool
	}{
		{payload("other", map[int64]storage.Revision{id: 3}), true},
		{payload("other", map[int64]storage.Revision{id: 2}), false},      // known
		{payload("other", map[int64]storage.Revision{id + 1: 9}), false},  // not open here
		{payload(d.id, map[int64]storage.Revision{id: 9}), false},         // our own
		{payload("other", map[int64]storage.Revision{id: 1 << 62}), true}, // a lie
		{payload("other", map[int64]storage.Revision{id: 3}), true},       // which does no harm
		{"other 1:x x:1 1 : 0:5 1:-1 \xff", false},
		{"", true},
		{"other", true},
	} {
		d.heard(tc.payload)
		if got := woken(s); got != tc.want {
			t.Errorf("%q woke: %t, want %t", tc.payload, got, tc.want)
		}
	}
	many := map[int64]storage.Revision{}
	for i := range int64(5000) {
		many[i+1] = 1 << 40
	}
	if got := payload("other", many); strings.Contains(got, " ") {
		t.Errorf("a payload of %d bytes is too long to send", len(got))
	}
}
