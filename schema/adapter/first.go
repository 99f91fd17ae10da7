package adapter

import (
	"context"
	"sync/atomic"
)

// First is a cluster's first start, in which the server itself makes the objects that every cluster has. Its writes need not
// wait for the disk one by one: until the last of them, which does wait and takes all before it along, nobody has been told
// that they are there, and a server that is cut off before it makes them anew. Only a store that no other server shares may
// be treated so: another one could have seen them, and would not make them again.
type First struct{ on atomic.Bool }

// Set begins or ends it.
func (f *First) Set(on bool) { f.on.Store(on) }

// Own marks a request of the server itself.
func (f *First) Own(ctx context.Context) context.Context {
	if f == nil || !f.on.Load() {
		return ctx
	}
	return context.WithValue(ctx, ownKey{}, true)
}

type ownKey struct{}

// own tells whether a request was marked, while that matters.
func (f *First) own(ctx context.Context) bool {
	return f != nil && f.on.Load() && ctx.Value(ownKey{}) != nil
}
