package main

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/rowlock-io/rowlock/cmd/rowlock/early"
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
	early.End()
	giveBack(plane, log)
	q := quiet{seen: allocated(), given: allocated()}
	var m mapped
	m.trimmed(residentFiles(), time.Now(), true)
	p := newPace()
	tick := time.NewTicker(quietInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		live := alive()
		still, burst := q.look(allocated(), live)
		p.set(!still, live)
		switch {
		case burst:
			giveBack(plane, log)
			m.trimmed(residentFiles(), time.Now(), true)
		case still && m.grown(residentFiles(), time.Now()):
			trim(log)
			m.trimmed(residentFiles(), time.Now(), false)
		}
	}
}

func giveBack(plane *controlplane.ControlPlane, log *slog.Logger) {
	plane.Cool()
	debug.FreeOSMemory()
	trim(log)
}

func trim(log *slog.Logger) {
	if err := trimBinary(); err != nil {
		log.Debug("Pages of the binary were kept", "err", err)
	}
}

const (
	quietInterval = 2 * time.Second
	quietBytes    = 16 << 20 // a server is quiet that allocated no more in an interval,
	quietPart     = 4        // or than this part of what is alive: a thousand nodes renew a hundred leases a second
	burstBytes    = 64 << 20 // and it is worth a collection when this much was allocated since the last, and as much as is alive

	mappedBytes = 8 << 20          // pages of the binary that came back are let go when they are more than these,
	mappedFirst = 10 * time.Second // not sooner after the last time
	mappedLast  = 10 * time.Minute // than between these
)

// quiet notices the end of bursts by the bytes that were ever allocated.
type quiet struct {
	seen  uint64 // at the last look
	given uint64 // when memory was last given back
}

// look tells whether it is quiet and, if so, whether that ends a burst after which there is memory to give back, from the
// bytes that were ever allocated and those that are alive.
func (q *quiet) look(allocated, alive uint64) (still, burst bool) {
	still = allocated-q.seen <= max(quietBytes, alive/quietPart)
	q.seen = allocated
	if !still || allocated-q.given < max(burstBytes, alive) {
		return still, false
	}
	q.given = allocated
	return true, true
}

// mapped notices that pages of the binary have come back, of which most were touched once: controllers that start, or a
// kind of request that nobody had sent before. What comes back each time is let go less and less often.
type mapped struct {
	left uint64    // after the last time
	next time.Time // not before
	wait time.Duration
}

func (m *mapped) grown(resident uint64, now time.Time) bool {
	return resident > m.left+mappedBytes && !now.Before(m.next)
}

// trimmed tells how much is left. burst: what comes now is something else than before.
func (m *mapped) trimmed(left uint64, now time.Time, burst bool) {
	m.wait = min(2*m.wait, mappedLast)
	if burst || m.wait == 0 {
		m.wait = mappedFirst
	}
	m.left, m.next = left, now.Add(m.wait)
}

func allocated() uint64 { return metric("/gc/heap/allocs:bytes") }

// alive is what the last collection left.
func alive() uint64 { return metric("/gc/heap/live:bytes") }

func metric(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
