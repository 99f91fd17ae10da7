package main

import (
	"context"
	"log/slog"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"

	"github.com/rowlock-io/rowlock/agents/crash"
)

// surviveCrashes makes libraries tell of what they would end the process for: it serves others besides.
func surviveCrashes() *crash.Handlers {
	h := &crash.Handlers{}
	utilruntime.ReallyCrash = false
	utilruntime.PanicHandlers = append(utilruntime.PanicHandlers, h.Handle)
	klog.OsExit = crash.Panic
	return h
}

// verbose shows what loops say as klog does: by its verbosity, and below warnings only with debug records.
type verbose struct{ slog.Handler }

func (v verbose) Enabled(ctx context.Context, level slog.Level) bool {
	if level < slog.LevelWarn && !klog.V(klog.Level(max(0, -level))).Enabled() {
		return false
	}
	return v.Handler.Enabled(ctx, level)
}

func (v verbose) WithAttrs(attrs []slog.Attr) slog.Handler {
	return verbose{v.Handler.WithAttrs(attrs)}
}

func (v verbose) WithGroup(name string) slog.Handler { return verbose{v.Handler.WithGroup(name)} }

// loopLogger is for what upstream's loops log through log until ctx ends.
func loopLogger(ctx context.Context, log *slog.Logger) *slog.Logger {
	return slog.New(verbose{hushed{calm{newLimit(demote{log.Handler()})}, ctx}})
}
