package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

func op(name string, relaxed bool) storage.Op {
	return storage.Op{
		Key:  storage.Key{Resource: "leases.coordination.k8s.io", Namespace: "n", Name: name},
		Verb: storage.Create, Data: []byte(`{"kind":"Lease","metadata":{"name":"` + name + `","labels":{"a":"b"}}}`), Relaxed: relaxed,
	}
}

func commit(t *testing.T, s storage.Store, ops ...storage.Op) storage.Committed {
	t.Helper()
	done, err := s.Commit(t.Context(), ops)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range done.Results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	return done
}

func head(t *testing.T, s storage.Store) storage.Position {
	t.Helper()
	pos, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

// diskState tells the size and time of the files, which change with every write.
func diskState(t *testing.T, b *backend) string {
	t.Helper()
	var out string
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(b.cfg.Path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		out += fmt.Sprintln(info.Size(), info.ModTime())
	}
	return out
}

func TestInUse(t *testing.T) {
	t.Parallel()
	b := open(t, Config{})
	_, err := Open(t.Context(), b.cfg)
	if !errors.Is(err, storage.ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
	for _, part := range []string{b.cfg.Path, fmt.Sprintf("process %d", os.Getpid())} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	b.open(t) // and now it is free
}

func TestRefusesForeignFiles(t *testing.T) {
	t.Parallel()
	b := open(t, Config{})
	w := <-b.db.writing
	if err := w.script(`INSERT INTO schema_migrations VALUES (99, 'later', 0)`); err != nil {
		t.Fatal(err)
	}
	b.db.writing <- w
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), b.cfg)
	if !errors.Is(err, storage.ErrSchema) || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("a newer schema: got %v", err)
	}

	foreign := filepath.Join(t.TempDir(), "foreign.db")
	c, err := openConn(foreign, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.script(`CREATE TABLE kine (id INTEGER)`); err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Path: foreign}); !errors.Is(err, storage.ErrSchema) {
		t.Errorf("another program's file: got %v, want ErrSchema", err)
	}

	junk := filepath.Join(t.TempDir(), "junk.db")
	if err := os.WriteFile(junk, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Path: junk}); !errors.Is(err, storage.ErrBusy) || !strings.Contains(err.Error(), "not a SQLite database") {
		t.Errorf("no database at all: got %v", err)
	}
}

func TestOddPath(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b", "50%25 ?x=1#y&z.db")
	db, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() == 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has %d bytes and mode %v", info.Size(), info.Mode())
	}
}

// TestRelaxedStaysInMemory checks the point of relaxed writes: the disk is left alone.
func TestRelaxedStaysInMemory(t *testing.T) {
	t.Parallel()
	b := open(t, Config{FlushInterval: time.Hour})
	s := b.Open(t)
	commit(t, s, op("first", true)) // reserves revisions
	before := diskState(t, b)
	last := commit(t, s, op("a", true), op("b", true)).Results[0].Revision
	for i := range 100 {
		o := op("a", true)
		o.Verb, o.Expect = storage.Update, last
		last = commit(t, s, o).Head
		if _, err := s.Changes(t.Context(), last-1, 0); err != nil {
			t.Fatal(i, err)
		}
	}
	if after := diskState(t, b); after != before {
		t.Errorf("relaxed writes reached the disk:\n%s%s", before, after)
	}
	shown := head(t, s)
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	b.open(t)
	s = b.Open(t)
	if got := head(t, s); got != shown {
		t.Errorf("after a clean stop the head is %v, was %v", got, shown)
	}
	if obj, err := s.Get(t.Context(), op("a", true).Key, 0); err != nil || obj.Revision != last {
		t.Errorf("the last state is at %d (error %v), want %d", obj.Revision, err, last)
	}
}

func TestCrashLosesRelaxed(t *testing.T) {
	t.Parallel()
	b := open(t, Config{FlushInterval: time.Hour})
	s := b.Open(t)
	commit(t, s, op("durable", false))
	for i := range margin + 100 { // past the first reservation
		commit(t, s, op(fmt.Sprint(i), true))
	}
	commit(t, s, op("lost", true))
	shown := head(t, s)
	b.Crash(t)
	s = b.Open(t)
	now := head(t, s)
	if now.Epoch != shown.Epoch+1 || now.Revision <= shown.Revision {
		t.Errorf("head is %v after %v was lost", now, shown)
	}
	if _, err := s.Get(t.Context(), op("lost", true).Key, 0); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the crash did not lose what was in memory: %v", err)
	}
	if _, err := s.Get(t.Context(), op("durable", true).Key, 0); err != nil {
		t.Errorf("the durable object: %v", err)
	}
	b.Crash(t) // nothing was written since: no further epoch
	if again := head(t, b.Open(t)); again != now {
		t.Errorf("head is %v after a second crash, want %v", again, now)
	}
}

func TestFlushByTimer(t *testing.T) {
	t.Parallel()
	b := open(t, Config{FlushInterval: time.Millisecond})
	s := b.Open(t).(*Store)
	want := commit(t, s, op("a", true)).Head
	for { // the test's own timeout ends this if it never comes
		s.c.mu.RLock()
		flushed := s.c.flushed
		s.c.mu.RUnlock()
		if flushed == want {
			break
		}
		time.Sleep(time.Millisecond)
	}
	b.Crash(t)
	if _, err := b.Open(t).Get(t.Context(), op("a", true).Key, 0); err != nil {
		t.Errorf("after the crash: %v", err)
	}
}

// TestPeek reads what is on the disk while the database is in use, and leaves the file as it was.
func TestPeek(t *testing.T) {
	t.Parallel()
	b := open(t, Config{})
	s := b.Open(t)
	strict, relaxed := op("strict", false), op("relaxed", true)
	commit(t, s, strict)
	commit(t, s, relaxed)
	before := diskState(t, b)
	obj, err := Peek(t.Context(), b.cfg.Path, clusterName, strict.Key)
	if err != nil || string(obj.Data) != string(strict.Data) {
		t.Errorf("got %q, %v", obj.Data, err)
	}
	for cluster, key := range map[string]storage.Key{clusterName: relaxed.Key, "none": strict.Key} {
		if _, err := Peek(t.Context(), b.cfg.Path, cluster, key); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s of %s: %v, want ErrNotFound", key, cluster, err)
		}
	}
	none := filepath.Join(t.TempDir(), "none.db")
	if _, err := Peek(t.Context(), none, clusterName, strict.Key); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("the file was made")
	}
	if after := diskState(t, b); after != before {
		t.Errorf("the file changed: %s\n%s", before, after)
	}
}
