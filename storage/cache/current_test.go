package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// TestCurrentShares: callers share a question, but never one that was under way when they came: its answer may be from
// before a commit that they know of.
func TestCurrentShares(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := database(t)
		s, foreign := newStage(open()), open()
		c := start(t, cache.Config{Store: s})
		hold := make(chan struct{})
		s.set(func(s *stage) { s.onHead = func(context.Context) error { <-hold; return nil } })
		var wg sync.WaitGroup
		ask := func(atLeast storage.Revision) {
			wg.Go(func() {
				rev, err := c.Current(t.Context())
				if err != nil || rev < atLeast {
					t.Errorf("Current: %d, %v; want at least %d", rev, err, atLeast)
				}
				if at := c.Position().Revision; at < rev {
					t.Errorf("cache is at %d when Current said %d", at, rev)
				}
			})
		}
		ask(0)
		synctest.Wait() // it has read the head, and is held up
		rev := commit(t, foreign, create(pod("a", "x"), "1")).Head
		for range 100 {
			ask(rev)
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		if n := s.heads.Load(); n != 2 {
			t.Errorf("%d questions for 101 callers, want 2", n)
		}
	})
}

// TestCurrentReadsOn: Current does not wait for a wake-up to learn of a foreign commit.
func TestCurrentReadsOn(t *testing.T) {
	t.Parallel()
	open := database(t)
	s, foreign := deaf(open()), open()
	c := start(t, cache.Config{Store: s})
	for i := range 100 {
		k := pod("a", fmt.Sprint(i))
		want := commit(t, foreign, create(k, "1")).Head
		rev, err := c.Current(t.Context())
		if err != nil || rev != want {
			t.Fatalf("Current: %d, %v; want %d", rev, err, want)
		}
		if e, _ := c.Get(k); e == nil {
			t.Fatalf("%v is not in a current cache", k)
		}
	}
}

func TestCurrentCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(database(t)())
		c := start(t, cache.Config{Store: s})
		ended := make(chan error, 1)
		s.set(func(s *stage) {
			s.onHead = func(ctx context.Context) error { <-ctx.Done(); ended <- ctx.Err(); return ctx.Err() }
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := c.Current(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("Current: %v", err)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		cancel()
		wg.Wait()
		// The question itself ends too, since nobody waits for it. The other two were for the next one.
		if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(began) != 0 {
			t.Errorf("question ended after %v with %v", time.Since(began), err)
		}
	})
}

func TestCurrentFails(t *testing.T) {
	t.Parallel()
	s := newStage(database(t)())
	c := start(t, cache.Config{Store: s})
	s.set(func(s *stage) { s.onHead = func(context.Context) error { return storage.ErrBusy } })
	if _, err := c.Current(t.Context()); !errors.Is(err, storage.ErrBusy) {
		t.Errorf("Current: %v", err)
	}
	s.set(func(s *stage) { s.onHead = nil })
	if _, err := c.Current(t.Context()); err != nil {
		t.Errorf("Current when the database is back: %v", err)
	}
}

func TestWaitFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := database(t)
		s, foreign := deaf(open()), open()
		c := start(t, cache.Config{Store: s})
		at := c.Position().Revision
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if err := c.WaitFor(ctx, at+1); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("WaitFor of what does not come, after %v: %v", time.Since(began), err)
		}
		done := make(chan error, 1)
		go func() { done <- c.WaitFor(t.Context(), at+2) }()
		synctest.Wait()
		apply(t, s, c, create(pod("a", "x"), "1"))
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("WaitFor returned at %d: %v", c.Position().Revision, err)
		default:
		}
		commit(t, foreign, create(pod("a", "y"), "1"))
		s.nudge()
		if err := <-done; err != nil {
			t.Errorf("WaitFor: %v", err)
		}
	})
}

// TestBeforeReady: nothing is there before the first load, and waiting for it can be given up.
func TestBeforeReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(database(t)())
		commit(t, s, create(pod("a", "x"), "1"))
		s.set(func(s *stage) {
			s.onList = func(context.Context, storage.ListOptions) error { return storage.ErrBusy }
		})
		c := cache.New(cache.Config{Store: s})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- c.Run(ctx) }()
		if e, at := c.Get(pod("a", "x")); e != nil || at.Revision != 0 {
			t.Errorf("Get: %v at %v", e, at)
		}
		if n := c.Snapshot("pods").Len(); n != 0 {
			t.Errorf("Snapshot of %d", n)
		}
		short, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if _, err := c.Watch(short, storage.Selector{}, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Watch: %v", err)
		}
		if _, err := c.Current(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Current: %v", err)
		}
		if n := s.lists.Load(); n < 10 || n > 40 {
			t.Errorf("%d attempts to load in a minute", n)
		}
		s.set(func(s *stage) { s.onList = nil })
		if err := c.WaitFor(t.Context(), 2); err != nil {
			t.Errorf("WaitFor: %v", err)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
