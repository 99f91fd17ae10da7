package register

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// TestHealthOfRestarted: a runtime that is away for a moment does not make the node not ready, and one that stays away does.
func TestHealthOfRestarted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fine := runtime.Conditions{Runtime: &runtime.Condition{Status: true}, Network: &runtime.Condition{Status: true}}
		down := false
		turns := 0
		h := &Health{changed: func() { turns++ }, ask: func(ctx context.Context) runtime.Conditions {
			if !down {
				return fine
			}
			<-ctx.Done() // it hangs
			return runtime.Conditions{Down: ctx.Err()}
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = h.Run(ctx) }()
		defer func() { cancel(); <-done }()
		after := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		wrong := func() string {
			if err := errors.Join(h.Errors()...); err != nil {
				return err.Error()
			}
			return ""
		}
		if wrong() == "" {
			t.Error("ready before the runtime was asked")
		}
		after(time.Second)
		if got := wrong(); got != "" {
			t.Fatalf("not ready: %s", got)
		}
		before := turns
		down = true
		after(25 * time.Second)
		if got := wrong(); got != "" {
			t.Errorf("not ready after 25 s: %s", got)
		}
		down = false
		after(15 * time.Second)
		if got := wrong(); got != "" {
			t.Errorf("not ready when the runtime is back: %s", got)
		}
		if turns == before {
			t.Error("nobody was told that the runtime is back")
		}
		down = true
		after(50 * time.Second)
		if got := wrong(); got != "container runtime is down" {
			t.Errorf("the runtime is down for 50 s: %q", got)
		}
		down = false
		after(12 * time.Second)
		if got := wrong(); got != "" {
			t.Errorf("not ready when the runtime is back: %s", got)
		}
	})
}
