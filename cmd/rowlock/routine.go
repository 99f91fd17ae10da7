package main

import (
	"context"
	"log/slog"
	"strings"
)

// routine are words in errors that loops log as such and that are the course of things: the loop tries again by itself, and there is
// nothing for anybody to do. Upstream knows that too, but says it in some loops and not in others.
var routine = []string{
	// A write that was made from an object that had changed meanwhile (registry.OptimisticLockErrorMsg).
	"the object has been modified; please apply your changes to the latest version",
	// A loop that waits until it sees what it wrote (consistency.ConsistencyError).
	"is not as new as written version",
	// A loop that fills up what is being emptied (NamespaceLifecycle).
	"because it is being terminated",
	// The second life of a loop, or that of another cluster, counts in the metrics that are there (ReplicaSets).
	"duplicate metrics collector registration attempted",
}

// calm shows warnings and errors about the course of things as debug records.
type calm struct{ slog.Handler }

// Handle implements slog.Handler.
func (c calm) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn && isRoutine(r) {
		if !c.Handler.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		r = r.Clone()
		r.Level = slog.LevelDebug
	}
	return c.Handler.Handle(ctx, r)
}

func (c calm) WithAttrs(attrs []slog.Attr) slog.Handler { return calm{c.Handler.WithAttrs(attrs)} }

func (c calm) WithGroup(name string) slog.Handler { return calm{c.Handler.WithGroup(name)} }

// isRoutine looks at the error of a record, which for klog is the attribute err.
func isRoutine(r slog.Record) bool {
	found := false
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		if a.Key != "err" || !ok {
			return true
		}
		text := err.Error()
		for _, words := range routine {
			found = found || strings.Contains(text, words)
		}
		return false
	})
	return found
}
