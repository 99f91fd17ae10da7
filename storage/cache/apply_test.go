package cache_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// TestApply: at once, after a gap, out of order, and after the log was faster; the aux value arrives each time.
func TestApply(t *testing.T) {
	t.Parallel()
	type own struct {
		ops  []storage.Op
		done storage.Committed
	}
	tests := []struct {
		name string
		// run commits "x", by s, among others, and returns the commit after which all must be there.
		run   func(t *testing.T, s *stage, foreign storage.Store, give func(own), x []storage.Op) storage.Committed
		reads int64 // calls of Changes, at most
		rows  int64 // and changes that they return
	}{
		{"at once", func(t *testing.T, s *stage, _ storage.Store, give func(own), x []storage.Op) storage.Committed {
			done := commit(t, s, x...)
			give(own{x, done})
			return done
		}, 0, 0},
		{"after a gap", func(t *testing.T, s *stage, foreign storage.Store, give func(own), x []storage.Op) storage.Committed {
			commit(t, foreign, create(pod("b", "1"), "1"), create(pod("b", "2"), "1"))
			done := commit(t, s, x...)
			give(own{x, done})
			return done
		}, 1, 2},
		{"between two", func(t *testing.T, s *stage, foreign storage.Store, give func(own), x []storage.Op) storage.Committed {
			commit(t, foreign, create(pod("b", "1"), "1"))
			done := commit(t, s, x...)
			last := commit(t, foreign, create(pod("b", "2"), "1"))
			give(own{x, done})
			s.nudge()
			return last
		}, 3, 2},
		{"out of order", func(t *testing.T, s *stage, _ storage.Store, give func(own), x []storage.Op) storage.Committed {
			y := []storage.Op{create(pod("b", "1"), "1")}
			first := commit(t, s, y...)
			done := commit(t, s, x...)
			give(own{x, done})
			give(own{y, first})
			return done
		}, 1, 1},
		{"log was faster", func(t *testing.T, s *stage, _ storage.Store, give func(own), x []storage.Op) storage.Committed {
			done := commit(t, s, x...)
			s.nudge()
			synctest.Wait()
			give(own{x, done})
			return done
		}, 1, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				open := database(t)
				s, foreign := deaf(open()), open()
				c := start(t, cache.Config{Store: s})
				synctest.Wait()
				s.changes.Store(0)
				s.rows.Store(0)
				sel := storage.Selector{Resource: "pods"}
				from := c.Position().Revision
				w := watch(t, c, sel, from)
				x := []storage.Op{create(pod("a", "x"), "1"), create(pod("a", "y"), "1"), create(pod("a", "z"), "1")}
				give := func(o own) {
					var aux []any
					for _, op := range o.ops {
						aux = append(aux, op.Key)
					}
					c.Apply(o.ops, aux, o.done)
				}
				last := tt.run(t, s, foreign, give, x)
				synctest.Wait()
				if at := c.Position().Revision; at != last.Head {
					t.Errorf("cache is at %d, want %d", at, last.Head)
				}
				if n := s.changes.Load(); n > tt.reads {
					t.Errorf("%d pages of the log read, want at most %d", n, tt.reads)
				}
				if n := s.rows.Load(); n > tt.rows {
					t.Errorf("%d changes read from the log, want at most %d: its own need not be", n, tt.rows)
				}
				equal(t, "changes", show(collect(t, w, last.Head)), logged(t, foreign, sel, from))
				for _, op := range x {
					if e, _ := c.Get(op.Key); e == nil || tt.name != "log was faster" && e.Aux() != op.Key {
						t.Errorf("%v: entry %v without its aux value", op.Key, e)
					}
				}
			})
		})
	}
}

// TestApplyPartly: failed ops leave no trace, and a commit in which all failed none at all.
func TestApplyPartly(t *testing.T) {
	t.Parallel()
	s := deaf(database(t)())
	c := start(t, cache.Config{Store: s})
	for _, ops := range [][]storage.Op{
		{update(pod("a", "none"), 5, "1"), create(pod("a", "x"), "1"), remove(pod("a", "none2"), 5), create(pod("a", "y"), "1")},
		{create(pod("a", "x"), "2")},
	} {
		done, err := s.Commit(t.Context(), ops)
		if err != nil {
			t.Fatal(err)
		}
		c.Apply(ops, []any{0, 1, 2, 3}[:len(ops)], done)
		if at := c.Position().Revision; at != done.Head {
			t.Errorf("cache is at %d, want %d", at, done.Head)
		}
	}
	equal(t, "pods", stateIn(t, c.Snapshot("pods")), stateOf(t, s, storage.Selector{Resource: "pods"}, 0))
	if e, _ := c.Get(pod("a", "y")); e.Aux() != 3 {
		t.Errorf("aux value is %v, want that of its own op", e.Aux())
	}
}

// TestApplyFlood: more commits than may wait for a gap to be read are left to the log.
func TestApplyFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := database(t)
		s, foreign := deaf(open()), open()
		c := start(t, cache.Config{Store: s})
		synctest.Wait()
		hold := make(chan struct{})
		s.set(func(s *stage) {
			s.onChange = func(context.Context, storage.Revision) error { <-hold; return nil }
		})
		commit(t, foreign, create(pod("b", "gap"), "1"))
		head := fillUnseen(t, s, c, 1000)
		synctest.Wait()
		close(hold)
		waitFor(t, c, head)
		equal(t, "pods", stateIn(t, c.Snapshot("pods")), stateOf(t, s.Store, storage.Selector{Resource: "pods"}, 0))
	})
}

// fillUnseen commits and applies n creations while the cache cannot go on.
func fillUnseen(t testing.TB, s storage.Store, c *cache.Cache, n int) (head storage.Revision) {
	t.Helper()
	for i := range n {
		head = apply(t, s, c, create(pod("a", string(rune('a'+i%26))+string(rune('0'+i/26))), "1"))
	}
	return head
}

// TestAux: one word for the layer above; concurrent first users agree.
func TestAux(t *testing.T) {
	t.Parallel()
	e := cache.NewEntry(storage.Object{})
	if v := e.Aux(); v != nil {
		t.Errorf("aux of a new entry: %v", v)
	}
	if v := e.CompareAndSwapAux("first"); v != "first" {
		t.Errorf("first user got %v", v)
	}
	if v := e.CompareAndSwapAux("second"); v != "first" {
		t.Errorf("second user got %v", v)
	}
	e.SetAux(3)
	if v := e.Aux(); v != 3 {
		t.Errorf("aux: %v", v)
	}
	e.SetAux(nil)
	if v := e.Aux(); v != nil {
		t.Errorf("aux when it was dropped: %v", v)
	}
}

// TestApplyRace: while the reader holds a batch that it has yet to publish, Apply publishes the first part of it.
func TestApplyRace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := database(t)
		s, foreign := deaf(open()), open()
		c := start(t, cache.Config{Store: s})
		sel := storage.Selector{Resource: "pods"}
		from := c.Position().Revision
		w := watch(t, c, sel, from)
		x := []storage.Op{create(pod("a", "x"), "1")}
		done := commit(t, s, x...)
		head := commit(t, foreign, create(pod("b", "y"), "1")).Head
		hold := make(chan struct{})
		s.set(func(s *stage) { s.onRead = func(context.Context) error { <-hold; return nil } })
		s.nudge()
		synctest.Wait()
		c.Apply(x, nil, done)
		if at := c.Position().Revision; at != done.Head {
			t.Errorf("Apply while the reader reads: cache is at %d, want %d", at, done.Head)
		}
		close(hold)
		waitFor(t, c, head)
		equal(t, "changes", show(collect(t, w, head)), logged(t, foreign, sel, from))
	})
}

// TestApplyOfHalfKnown: the reader got a part of a commit, because its batch ended there, before the commit was applied.
func TestApplyOfHalfKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := deaf(database(t)())
		c := start(t, cache.Config{Store: s})
		ops := []storage.Op{
			create(pod("a", "x"), string(make([]byte, storage.MinBatchBytes))), create(pod("a", "y"), "1"),
			create(pod("a", "z"), "1"),
		}
		done := commit(t, s, ops...)
		n, hold := 0, make(chan struct{})
		s.set(func(s *stage) {
			s.cut = storage.MinBatchBytes
			s.onRead = func(context.Context) error {
				if n++; n == 2 {
					<-hold
					return storage.ErrBusy
				}
				return nil
			}
		})
		s.nudge()
		synctest.Wait()
		if at := c.Position().Revision; at != done.Before.Revision+1 {
			t.Errorf("cache is at %d, want to have the first of the commit after %d", at, done.Before.Revision)
		}
		c.Apply(ops, nil, done)
		close(hold)
		waitFor(t, c, done.Head)
		equal(t, "pods", stateIn(t, c.Snapshot("pods")), stateOf(t, s.Store, storage.Selector{Resource: "pods"}, 0))
	})
}

// TestCutBatches: a batch that ended early for its size is not the end of the log.
func TestCutBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := database(t)
		s, foreign := deaf(open()), open()
		s.cut = storage.MinBatchBytes
		c := start(t, cache.Config{Store: s})
		var head storage.Revision
		for i := range 10 {
			head = commit(t, foreign, create(pod("a", string(rune('0'+i))), string(make([]byte, storage.MinBatchBytes/2)))).Head
		}
		s.nudge()
		synctest.Wait()
		if at := c.Position().Revision; at != head {
			t.Errorf("cache is at %d of %d after one wake-up", at, head)
		}
		if n := s.changes.Load(); n > 7 {
			t.Errorf("%d questions for five batches", n)
		}
	})
}
