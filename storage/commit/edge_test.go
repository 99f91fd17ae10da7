package commit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g, stop := start(t, Config{})
		inFlight, cancelInFlight := context.WithCancel(t.Context())
		waiting, cancelWaiting := context.WithCancel(t.Context())
		first := answers(inFlight, c, op("first"))
		second := answers(waiting, c, op("second"))
		third := answers(t.Context(), c, op("third"))

		cancelInFlight()
		cancelWaiting()
		if err := <-first; !errors.Is(err, storage.ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("in flight: got %v, want an unknown outcome", err)
		}
		if err := <-second; errors.Is(err, storage.ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("waiting: got %v, want only the context's error", err)
		}
		g.let <- nil // the first one's commit goes on
		g.let <- nil
		if err := <-third; err != nil {
			t.Errorf("the neighbour: %v", err)
		}
		if _, err := g.Get(t.Context(), op("first").Key, 0); err != nil {
			t.Errorf("what was in flight when its caller left: %v", err)
		}
		if _, err := g.Get(t.Context(), op("second").Key, 0); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("what was dropped: got %v, want not found", err)
		}
		stop()
	})
}

// TestWhile: what nobody may write any more when its turn comes is dropped, though its caller still waits.
func TestWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g, stop := start(t, Config{})
		over := errors.New("over")
		var now error
		ctx := While(t.Context(), func() error { return now })
		first := answers(ctx, c, op("first"))
		second := answers(ctx, c, op("second"))
		third := answers(t.Context(), c, op("third"))
		now = over
		g.let <- nil
		g.let <- nil
		if err := <-first; err != nil {
			t.Errorf("part of a commit already: %v", err)
		}
		if err := <-second; !errors.Is(err, over) {
			t.Errorf("got %v, want what the function said", err)
		}
		if err := <-third; err != nil {
			t.Errorf("the neighbour: %v", err)
		}
		if _, err := g.Get(t.Context(), op("second").Key, 0); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("what was dropped: got %v, want not found", err)
		}
		stop()
	})
}

func TestWholeCommitFails(t *testing.T) {
	t.Parallel()
	for _, want := range []error{storage.ErrBusy, storage.ErrUnknown} {
		synctest.Test(t, func(t *testing.T) {
			c, g, stop := start(t, Config{Applied: func(ops []storage.Op, _ []any, _ storage.Committed) {
				if ops[0].Key.Name != "after" {
					t.Errorf("a failed commit of %v was applied", ops[0].Key)
				}
			}})
			first := answers(t.Context(), c, op("a"))
			second, third := answers(t.Context(), c, op("b")), answers(t.Context(), c, op("c"))
			g.let <- fmt.Errorf("disk: %w", want)
			g.let <- fmt.Errorf("disk: %w", want)
			for _, ch := range []<-chan error{first, second, third} {
				if err := <-ch; !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
			after := answers(t.Context(), c, op("after"))
			g.let <- nil
			if err := <-after; err != nil {
				t.Errorf("the next commit: %v", err)
			}
			stop()
		})
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g, stop := start(t, Config{MaxQueuedOps: 2, MaxQueuedBytes: 100, MaxBytes: 50})
		big := func(name string, size int) storage.Op {
			o := op(name)
			o.Data = make([]byte, size)
			return o
		}
		first := answers(t.Context(), c, big("first", 500)) // alone it may be of any size
		a := answers(t.Context(), c, big("a", 40))
		if err := <-answers(t.Context(), c, big("b", 61)); !errors.Is(err, storage.ErrBusy) {
			t.Errorf("over the queue's bytes: got %v, want busy", err)
		}
		b := answers(t.Context(), c, big("b", 11))
		if err := <-answers(t.Context(), c, op("c")); !errors.Is(err, storage.ErrBusy) {
			t.Errorf("over the queue's ops: got %v, want busy", err)
		}
		for range 3 { // a and b have more than a commit's bytes together
			g.let <- nil
		}
		for _, ch := range []<-chan error{first, a, b} {
			if err := <-ch; err != nil {
				t.Error(err)
			}
		}
		stop()
	})
}

func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g, stop := start(t, Config{Timeout: time.Minute})
		first, second := answers(t.Context(), c, op("a")), answers(t.Context(), c, op("b"))
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		synctest.Wait()
		g.let <- nil // neither the commit in flight nor what waits is lost
		g.let <- nil
		<-stopped
		for _, ch := range []<-chan error{first, second} {
			if err := <-ch; err != nil {
				t.Error(err)
			}
		}
		if err := <-answers(t.Context(), c, op("c")); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("after the end: got %v, want closed", err)
		}
	})
}

func TestStopWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, stop := start(t, Config{Timeout: time.Minute, MaxOps: 1})
		var all []<-chan error
		for i := range 5 {
			all = append(all, answers(t.Context(), c, op(fmt.Sprint(i))))
		}
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > 2*time.Minute {
			t.Errorf("stopped after %v: every write waited for the timeout", took)
		}
		for i, ch := range all {
			if err := <-ch; err == nil {
				t.Errorf("write %d was acknowledged", i)
			}
		}
	})
}

func TestCommitAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g, stop := start(t, Config{MaxOps: 4})
		go func() {
			for {
				select {
				case g.let <- nil:
				case <-t.Context().Done():
					return
				}
			}
		}()
		var ops []storage.Op
		for i := range 10 {
			ops = append(ops, op(fmt.Sprint(i)))
		}
		ops[7] = ops[3] // one key twice
		results, err := c.CommitAll(t.Context(), ops, nil)
		if err != nil || len(results) != len(ops) {
			t.Fatalf("got %d results and error %v", len(results), err)
		}
		for i, r := range results {
			if i == 7 {
				if !errors.Is(r.Err, storage.ErrExists) {
					t.Errorf("the second write of a key: %v", r.Err)
				}
			} else if r.Err != nil || r.Revision == 0 {
				t.Errorf("op %d: revision %d, error %v", i, r.Revision, r.Err)
			}
		}
		stop()
		results, err = c.CommitAll(t.Context(), ops, nil)
		if !errors.Is(err, storage.ErrClosed) || !errors.Is(results[9].Err, storage.ErrClosed) {
			t.Errorf("after the end: %v and %v for the last op, want closed", err, results[9].Err)
		}
	})
}

func TestMalformedStaysAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g, stop := start(t, Config{})
		if _, err := c.Commit(t.Context(), storage.Op{Key: op("x").Key}, nil); err == nil {
			t.Error("an op without a verb was accepted")
		}
		if len(g.batches) != 0 {
			t.Error("it reached the store")
		}
		stop()
	})
}

// Writers of one key that lost to a commit learn it at once: only the commit that beat them goes to the database.
func TestLosersDoNotWaitForOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, g, stop := start(t, Config{})
		defer stop()
		created := answers(t.Context(), c, op("hot"))
		synctest.Wait()
		g.let <- nil
		if err := <-created; err != nil {
			t.Fatal(err)
		}
		head, err := g.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		update := storage.Op{Key: op("hot").Key, Verb: storage.Update, Expect: head.Revision, Data: []byte("new")}
		var all []<-chan error
		for range 10 {
			all = append(all, answers(t.Context(), c, update))
		}
		synctest.Wait()
		g.let <- nil
		won := 0
		for _, a := range all {
			switch err := <-a; {
			case err == nil:
				won++
			case !errors.Is(err, storage.ErrConflict):
				t.Errorf("got %v, want a conflict", err)
			}
		}
		if won != 1 || len(g.batches) != 2 {
			t.Errorf("%d writers won in %d commits, want 1 in 1 behind the create: %v", won, len(g.batches)-1, g.batches)
		}
	})
}
