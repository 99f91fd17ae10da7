package cache_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

func isClosed(err error) bool { return errors.Is(err, storage.ErrClosed) }

// TestClosed: when Run has returned, whoever waits is told, and no goroutine is left (synctest would say).
func TestClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(database(t)())
		c, stop := startFor(t, cache.Config{Store: s})
		rev := apply(t, s, c, create(pod("a", "x"), "1"))
		s.set(func(s *stage) { s.onHead = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } })
		w := watch(t, c, storage.Selector{Resource: "pods"}, rev)
		all := watch(t, c, storage.Selector{}, rev)
		errs := make(chan error, 4)
		go func() { _, err := w.Next(t.Context()); errs <- err }()
		go func() { _, err := all.Next(t.Context()); errs <- err }()
		go func() { _, err := c.Current(t.Context()); errs <- err }()
		go func() { errs <- c.WaitFor(t.Context(), rev+1) }()
		synctest.Wait()
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		for range cap(errs) {
			if err := <-errs; !isClosed(err) {
				t.Errorf("one who waited: %v", err)
			}
		}
		if _, err := c.Watch(t.Context(), storage.Selector{Resource: "pods"}, rev); !isClosed(err) {
			t.Errorf("Watch: %v", err)
		}
		if _, err := c.Current(t.Context()); !isClosed(err) {
			t.Errorf("Current: %v", err)
		}
		if _, err := w.TryNext(); !isClosed(err) {
			t.Errorf("TryNext: %v", err)
		}
		apply(t, s, c, create(pod("a", "y"), "1")) // nothing happens
		if e, at := c.Get(pod("a", "x")); e == nil || at.Revision != rev {
			t.Errorf("Get of the last state: %v at %v", e, at)
		}
	})
}

func TestStoreClosed(t *testing.T) {
	t.Parallel()
	s := deaf(database(t)())
	c, stop := startFor(t, cache.Config{Store: s})
	w := watch(t, c, storage.Selector{Resource: "pods"}, c.Position().Revision)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.nudge()
	if _, err := w.Next(t.Context()); !isClosed(err) {
		t.Errorf("Next: %v", err)
	}
	if err := stop(); !isClosed(err) {
		t.Errorf("Run: %v", err)
	}
}

func TestWatcherEnds(t *testing.T) {
	t.Parallel()
	type ends struct {
		name string
		end  func(w *cache.Watcher, cancelWatch, cancelNext func())
		want error
	}
	for _, tt := range []ends{
		{"Close", func(w *cache.Watcher, _, _ func()) { w.Close() }, storage.ErrClosed},
		{"watch context", func(_ *cache.Watcher, cancel, _ func()) { cancel() }, context.Canceled},
		{"next context", func(_ *cache.Watcher, _, cancel func()) { cancel() }, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := database(t)()
				c := start(t, cache.Config{Store: s})
				life, cancelWatch := context.WithCancel(t.Context())
				defer cancelWatch()
				ctx, cancelNext := context.WithCancel(t.Context())
				defer cancelNext()
				w, err := c.Watch(life, storage.Selector{Resource: "pods"}, c.Position().Revision)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				ended := make(chan error, 1)
				go func() { _, err := w.Next(ctx); ended <- err }()
				synctest.Wait()
				tt.end(w, cancelWatch, cancelNext)
				if err := <-ended; !errors.Is(err, tt.want) {
					t.Errorf("Next: %v, want %v", err, tt.want)
				}
				// Only the end of Next's own context leaves the watcher usable.
				rev := apply(t, s, c, create(pod("a", "x"), "1"))
				b, err := w.TryNext()
				if tt.name == "next context" {
					if err != nil || b.Through != rev || len(b.Changes) != 1 {
						t.Errorf("TryNext: %v through %d, %v", show(b.Changes), b.Through, err)
					}
				} else if !errors.Is(err, tt.want) {
					t.Errorf("TryNext: %v, want %v", err, tt.want)
				}
			})
		})
	}
}

// TestWake: a Next that waits returns with the revision reached, so that a bookmark can be sent.
func TestWake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := database(t)()
		c := start(t, cache.Config{Store: s})
		w := watch(t, c, storage.Selector{Resource: "nodes"}, c.Position().Revision)
		got := make(chan cache.Batch)
		go func() {
			for range 2 {
				b, err := w.Next(t.Context())
				if err != nil {
					t.Errorf("Next: %v", err)
				}
				got <- b
			}
		}()
		synctest.Wait()
		rev := apply(t, s, c, create(pod("a", "x"), "1"))
		w.Wake()
		if b := <-got; len(b.Changes) != 0 || b.Through != rev {
			t.Errorf("Next after Wake: %v through %d, want nothing through %d", show(b.Changes), b.Through, rev)
		}
		w.Wake() // whether Next waits yet or not
		if b := <-got; len(b.Changes) != 0 || b.Through != rev {
			t.Errorf("Next after Wake: %v through %d, want nothing through %d", show(b.Changes), b.Through, rev)
		}
	})
}
