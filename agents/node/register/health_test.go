package register

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

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

// TestImagesOfHanging: a runtime that does not answer holds up the node's status for a moment only, and what it said before is said on.
func TestImagesOfHanging(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hangs := false
		cfg := Config{Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler), Images: func(ctx context.Context) ([]Image, error) {
			if hangs {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []Image{{Tags: []string{"a"}, Size: 1}}, nil
		}}
		var i images
		if got := i.list(t.Context(), cfg); len(got) != 1 {
			t.Fatalf("images: %v", got)
		}
		hangs = true
		time.Sleep(time.Hour)
		began := time.Now()
		for range 10 {
			if got := i.list(t.Context(), cfg); len(got) != 1 {
				t.Errorf("images: %v", got)
			}
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("statuses were held up for %s", took)
		}
	})
}
