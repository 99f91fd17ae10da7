package worker

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// gate bounds how many sandboxes are being made. What a hundred pods need that come at once is CPU: all at a time, nearly all of them are
// ready at the end only; a few at a time half of them are ready a third sooner, and the last one little later (docs/performance.md).
type gate struct{ slots chan struct{} }

// Sandboxes at the same time, for each CPU. Some of them wait: for the disk, for a network.
const perCPU = 4

// longest is how long a sandbox counts. One that waits for something else than the CPU holds up nobody for longer.
const longest = 3 * time.Second

func newGate() gate { return gate{make(chan struct{}, perCPU*runtime.NumCPU())} }

// enter waits for a slot, which is given back by leave, or when it was long.
func (g gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	once := sync.OnceFunc(func() { <-g.slots })
	timer := time.AfterFunc(longest, once)
	return func() { timer.Stop(); once() }, nil
}
