package read

import (
	"context"
	"sync/atomic"
)

type announcedKey struct{}

// WithAnnounced has watches of a connection set a flag before they write events, so that its writer may wait for those of others.
func WithAnnounced(ctx context.Context, flag *atomic.Bool) context.Context {
	return context.WithValue(ctx, announcedKey{}, flag)
}

// Announced is that flag; nil: there is none.
func Announced(ctx context.Context) *atomic.Bool {
	flag, _ := ctx.Value(announcedKey{}).(*atomic.Bool)
	return flag
}
