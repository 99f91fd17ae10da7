package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"

	"github.com/rowlock-io/rowlock/agents/crash"
)

// maker makes a loop.
type maker struct {
	name string
	make func(context.Context, app.ControllerContext) (app.Controller, error)
}

// Bounds of the wait before a loop is made again, and how long one must have run well to be forgiven.
const (
	firstRestart = time.Second
	lastRestart  = 5 * time.Minute
	forgiven     = 10 * time.Minute
)

// patience is how long a loop that was told to stop is waited for: as long as kube-controller-manager has for all.
const patience = 10 * time.Second

// loop is one controller. When it crashes it is made anew, as all would be in a process of their own that starts again.
type loop struct {
	maker
	inside  *inside
	indexes indexes
	life    *life // nil: it could not be made
	log     *slog.Logger
	report  Report
}

// life is one of a loop, from when it is made to when it has stopped. What it has started ends with its context.
type life struct {
	ctx        context.Context
	stop       context.CancelCauseFunc
	registry   *registry
	controller app.Controller
}

func (l *life) end(err error) {
	l.stop(err)
	l.registry.clear()
}

var (
	errEnded = errors.New("it ended by itself")
	errOver  = errors.New("stopped")
)

type panicError struct{ panicked any }

func (e panicError) Error() string {
	if exit, ok := e.panicked.(crash.Exit); ok {
		return "it wanted the process to " + exit.Error()
	}
	return fmt.Sprintf("panic: %v", e.panicked)
}

// make makes the loop; wanted is false when upstream does without it, for what flags and feature gates say.
func (l *loop) make(ctx context.Context) (wanted bool, err error) {
	ctx, stop := context.WithCancelCause(ctx)
	ctx = logr.NewContext(ctx, logr.FromContextOrDiscard(ctx).WithValues("controller", l.name))
	ctx = crash.With(ctx, func(r any) { stop(panicError{r}) })
	made := &life{ctx: ctx, stop: stop, registry: &registry{ctx: ctx, indexes: &l.indexes}}
	l.life = nil
	defer func() {
		if r := recover(); r != nil {
			wanted, err = true, l.panicked(r)
		}
		if l.life == nil {
			made.end(errOver)
		}
	}()
	inside, err := l.inside.of(l.name, made)
	if err != nil {
		return true, err
	}
	if made.controller, err = l.maker.make(ctx, inside); err != nil {
		return true, err
	}
	if made.controller != nil {
		l.life = made
	}
	return l.life != nil, nil
}

// panicked logs a panic as long as it shows where it came from; a wish to exit has been explained by who has it.
func (l *loop) panicked(r any) error {
	err := panicError{r}
	if _, ok := r.(crash.Exit); !ok {
		l.log.Error("Controller panicked", "controller", l.name, "err", err, "stack", string(debug.Stack()))
	}
	return err
}

// run runs the loop, which may have been made already, until ctx ends.
func (l *loop) run(ctx context.Context, err error) {
	defer l.report.Down(l.name, nil)
	delay := firstRestart
	for {
		if l.life != nil {
			began := time.Now()
			l.report.Up(l.name)
			err = l.live(ctx)
			if time.Since(began) > forgiven {
				delay = firstRestart
			}
		}
		if ctx.Err() != nil {
			return
		}
		l.report.Down(l.name, err)
		after := wait.Jitter(delay, 0.2)
		delay = min(2*delay, lastRestart)
		l.log.Error("Controller is down and is started again", "controller", l.name, "err", err, "after", after.Round(time.Millisecond))
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return
		}
		if _, err = l.make(ctx); err == nil {
			l.inside.start(ctx)
		}
	}
}

// live is the loop's life until it ends, by itself, by a crash or with its parent's.
func (l *loop) live(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				l.life.stop(l.panicked(r))
			}
		}()
		l.life.controller.Run(l.life.ctx)
	}()
	defer func() { l.life.end(errOver); l.life = nil }()
	select {
	case <-done:
		if err := context.Cause(l.life.ctx); err != nil {
			return err
		}
		return errEnded
	case <-l.life.ctx.Done():
	}
	select {
	case <-done:
	case <-time.After(patience):
		// Its clients are cut off: whatever it still does has no effect.
		l.log.Warn("Controller does not stop and is left behind", "controller", l.name, "stopping", ctx.Err() != nil)
	}
	return context.Cause(l.life.ctx)
}
