package main

import (
	"context"
	"log/slog"
)

// demote shows records below warning only when debug records are shown.
type demote struct{ slog.Handler }

func (d demote) Enabled(ctx context.Context, level slog.Level) bool {
	if level < slog.LevelWarn {
		level = min(level, slog.LevelDebug)
	}
	return d.Handler.Enabled(ctx, level)
}

func (d demote) WithAttrs(attrs []slog.Attr) slog.Handler { return demote{d.Handler.WithAttrs(attrs)} }

func (d demote) WithGroup(name string) slog.Handler { return demote{d.Handler.WithGroup(name)} }
