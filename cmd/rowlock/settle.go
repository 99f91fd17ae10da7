package main

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/rowlock-io/rowlock/server/controlplane"
)

// settle gives back memory that only the start needed once the server is ready, and after a burst of work when it has
// become quiet. Go keeps what a burst needed for the next one, as garbage that nobody has collected and as free pages, for
// minutes and more.
func settle(ctx context.Context, plane *controlplane.ControlPlane, log *slog.Logger) {
	select {
	case <-plane.Bootstrapped():
	case <-ctx.Done():
		return
	}
	giveBack(log)
	q := quiet{seen: allocated(), given: allocated()}
	tick := time.NewTicker(quietInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if q.look(allocated(), alive()) {
			giveBack(log)
		}
	}
}

func giveBack(log *slog.Logger) {
	debug.FreeOSMemory()
	if err := trimBinary(); err != nil {
		log.Debug("Pages of the binary were kept", "err", err)
	}
}

const (
	quietInterval = 2 * time.Second
	quietBytes    = 16 << 20 // a server is quiet that allocated no more in an interval
	burstBytes    = 64 << 20 // and it is worth a collection when this much was allocated since the last, and as much as is alive
)

// quiet notices the end of bursts by the bytes that were ever allocated.
type quiet struct {
	seen  uint64 // at the last look
	given uint64 // when memory was last given back
}

// look tells whether it is time to give back memory, from the bytes that were ever allocated and those that are alive.
func (q *quiet) look(allocated, alive uint64) bool {
	still := allocated-q.seen <= quietBytes
	q.seen = allocated
	if !still || allocated-q.given < max(burstBytes, alive) {
		return false
	}
	q.given = allocated
	return true
}

func allocated() uint64 { return metric("/gc/heap/allocs:bytes") }

// alive is what the last collection left.
func alive() uint64 { return metric("/gc/heap/live:bytes") }

func metric(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
