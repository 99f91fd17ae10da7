package election

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Turn is the time in which a process acts.
type Turn struct {
	ctx   context.Context //nolint:containedctx // whose end it is about
	until atomic.Pointer[time.Time]
}

func (t *Turn) extend(until time.Time) { t.until.Store(&until) }

var errRanOut = errors.New("the lease has run out")

// Over tells why it is no longer the turn; nil: it is. The clock is looked at: a process that stood still has not noticed yet
// what happened meanwhile.
func (t *Turn) Over() error {
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	// By both clocks: one of them stands still while a machine sleeps.
	if until, now := *t.until.Load(), time.Now(); !now.Before(until) || !now.Round(0).Before(until.Round(0)) {
		return errRanOut
	}
	return nil
}
