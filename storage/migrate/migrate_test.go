package migrate

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage"
)

// fake is a database of which several processes may be clients.
type fake struct {
	lock    sync.Mutex // what Exclusive holds
	mu      sync.Mutex
	applied []string
	failOn  int
	locks   int
}

func (f *fake) Version(context.Context) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.applied), nil
}

func (f *fake) Exclusive(ctx context.Context, fn func(context.Context) error) error {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.mu.Lock()
	f.locks++
	f.mu.Unlock()
	return fn(ctx)
}

func (f *fake) Apply(_ context.Context, m Migration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.Version == f.failOn {
		return errors.New("syntax error")
	}
	f.applied = append(f.applied, m.Name+":"+m.SQL)
	return nil
}

func files(names ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for _, n := range names {
		out[n] = &fstest.MapFile{Data: []byte("sql of " + n)}
	}
	return out
}

func TestRun(t *testing.T) {
	t.Parallel()
	three := files("00001_init.sql", "00002_more.sql", "00003_less.sql")
	want := []string{"init:sql of 00001_init.sql", "more:sql of 00002_more.sql", "less:sql of 00003_less.sql"}

	d := &fake{failOn: 3}
	if err := Run(t.Context(), three, d); err == nil || !strings.Contains(err.Error(), "apply 3 (less)") {
		t.Fatalf("got error %v, want one that names the third migration", err)
	}
	if diff := cmp.Diff(want[:2], d.applied); diff != "" {
		t.Fatalf("after the failure (-want +got):\n%s", diff)
	}
	d.failOn = 0
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := Run(t.Context(), three, d); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(want, d.applied); diff != "" {
		t.Errorf("after all (-want +got):\n%s", diff)
	}

	locks := d.locks
	if err := Run(t.Context(), three, d); err != nil {
		t.Fatal(err)
	}
	if d.locks != locks {
		t.Error("took the lock though there was nothing to do")
	}
}

func TestRunRefusesNewer(t *testing.T) {
	t.Parallel()
	d := &fake{applied: []string{"1", "2", "3"}}
	err := Run(t.Context(), files("00001_init.sql", "00002_more.sql"), d)
	if !errors.Is(err, storage.ErrSchema) {
		t.Fatalf("got %v, want ErrSchema", err)
	}
	for _, part := range []string{"version 3", "up to 2"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if len(d.applied) != 3 {
		t.Errorf("something was applied: %q", d.applied)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, names := range map[string][]string{
		"nothing":      {"README.md"},
		"a gap":        {"00001_init.sql", "00003_more.sql"},
		"a late start": {"00002_init.sql"},
		"a double":     {"00001_init.sql", "1_again.sql"},
		"no number":    {"init.sql"},
		"no name":      {"00001.sql"},
	} {
		if got, err := Load(files(names...)); err == nil {
			t.Errorf("%s: loaded %v", name, got)
		}
	}
}
