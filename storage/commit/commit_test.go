package commit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// gate is a store whose commits wait to be let through. It remembers which keys each of them carried.
type gate struct {
	storage.Store
	let chan error // nil: go on; else what the commit fails with

	mu      sync.Mutex
	batches [][]string
}

func (g *gate) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	names := make([]string, len(ops))
	for i, op := range ops {
		names[i] = op.Key.Name
	}
	g.mu.Lock()
	g.batches = append(g.batches, names)
	g.mu.Unlock()
	select {
	case err := <-g.let:
		if err != nil {
			return storage.Committed{}, err
		}
		return g.Store.Commit(ctx, ops)
	case <-ctx.Done():
		return storage.Committed{}, fmt.Errorf("%w: %w", storage.ErrUnknown, ctx.Err())
	}
}

// start runs a committer on a gate in memory, in the test's bubble.
func start(t *testing.T, cfg Config) (c *Committer, g *gate, stop func()) {
	t.Helper()
	db := memory.New()
	if err := db.CreateCluster(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	s, err := db.OpenCluster(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	g = &gate{Store: s, let: make(chan error)}
	cfg.Metrics = NewMetrics(prometheus.NewRegistry())
	c = New(g, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	return c, g, func() { cancel(); <-ended }
}

func op(name string) storage.Op {
	return storage.Op{Key: storage.Key{Resource: "pods", Name: name}, Verb: storage.Create, Data: []byte("{}")}
}

// answers runs Commit in the background.
func answers(ctx context.Context, c *Committer, o storage.Op) <-chan error {
	out := make(chan error, 1)
	go func() {
		_, err := c.Commit(ctx, o, nil)
		out <- err
	}()
	synctest.Wait() // so that the order of calls is the order in the queue
	return out
}

func TestGathersWhileOneIsAtTheDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var applied []storage.Revision
		c, g, stop := start(t, Config{MaxOps: 3, Applied: func(ops []storage.Op, aux []any, done storage.Committed) {
			if len(ops) != len(aux) || len(ops) != len(done.Results) {
				t.Errorf("applied %d ops with %d aux and %d results", len(ops), len(aux), len(done.Results))
			}
			applied = append(applied, done.Head)
		}})
		var got []<-chan error
		for _, name := range []string{"a", "b", "a", "c", "a", "d", "e"} {
			got = append(got, answers(t.Context(), c, op(name)))
		}
		begin := time.Now()
		for range 3 {
			g.let <- nil
			synctest.Wait()
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("a timer of %v delayed commits", took)
		}
		// The first went alone at once. No commit has a key twice, none has more than three ops, and what was passed
		// over keeps its place at the front.
		want := [][]string{{"a"}, {"b", "a", "c"}, {"a", "d", "e"}}
		g.mu.Lock()
		if diff := cmp.Diff(want, g.batches); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		g.mu.Unlock()
		for i, ch := range got {
			var wantErr error
			if i == 2 || i == 4 { // judged singly
				wantErr = storage.ErrExists
			}
			if err := <-ch; !errors.Is(err, wantErr) {
				t.Errorf("write %d: got %v, want %v", i, err, wantErr)
			}
		}
		if diff := cmp.Diff([]storage.Revision{2, 4, 6}, applied); diff != "" {
			t.Errorf("heads told to Applied (-want +got):\n%s", diff)
		}
		stop()
	})
}
