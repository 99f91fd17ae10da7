package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestGate: so many and no more, in turn; one that takes long holds up nobody for longer, and one that gives up takes no slot.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		var slow []func()
		for range cap(g.slots) {
			leave, err := g.enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			slow = append(slow, leave)
		}
		ctx, cancel := context.WithTimeout(t.Context(), longest/2)
		defer cancel()
		if _, err := g.enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one more: %v", err)
		}
		slow[0]()
		began := time.Now()
		leave, err := g.enter(t.Context())
		if err != nil || time.Since(began) > 0 {
			t.Errorf("after one left: %v, %v later", err, time.Since(began))
		}
		for range cap(g.slots) - 1 {
			if _, err := g.enter(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := time.Since(began); got != longest/2 {
			t.Errorf("those that take long were waited for %v", got)
		}
		for _, leave := range append(slow, leave) {
			leave() // what was given back is not given back again
		}
		if got := len(g.slots); got != cap(g.slots)-1 {
			t.Errorf("%d slots are taken, want %d", got, cap(g.slots)-1)
		}
		time.Sleep(longest + time.Millisecond)
		if got := len(g.slots); got != 0 {
			t.Errorf("%d slots are taken for ever", got)
		}
	})
}
