package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
)

// hushed shows what libraries say as debug records once ctx has ended: they call it an error that they were told to stop. The same
// goes at any time for what ends with somebody's context, which is how requests are broken off.
type hushed struct {
	slog.Handler
	ctx context.Context //nolint:containedctx // of what the libraries work for
}

// Handle implements slog.Handler.
func (q hushed) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn || q.ctx.Err() == nil && !brokenOff(r) {
		return q.Handler.Handle(ctx, r)
	}
	if !q.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	r = r.Clone()
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (q hushed) WithAttrs(attrs []slog.Attr) slog.Handler {
	return hushed{q.Handler.WithAttrs(attrs), q.ctx}
}

// WithGroup implements slog.Handler.
func (q hushed) WithGroup(name string) slog.Handler { return hushed{q.Handler.WithGroup(name), q.ctx} }

// brokenOff tells whether a record is about an error that is somebody's end of waiting. Some are known by their words only.
func brokenOff(r slog.Record) (yes bool) {
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		yes = ok && (errors.Is(err, context.Canceled) || strings.HasSuffix(err.Error(), context.Canceled.Error()))
		return !yes
	})
	return yes
}
