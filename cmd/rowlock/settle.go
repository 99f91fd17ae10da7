package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/rowlock-io/rowlock/cmd/rowlock/early"
)

// asServer is how servers settle, with what acts in them.
func asServer(started <-chan struct{}, cool func()) settling {
	return settling{started: started, cool: cool, burst: 64 << 20, hurries: true, mapped: 10 * time.Minute}
}

// asNode is how nodes do: one that works hard allocates less than a server that does nothing, little of it is alive, and many share
// their machines with what they are there for.
func asNode() settling { return settling{burst: 16 << 20, percent: early.Node, mapped: time.Minute} }

// settling is how a process settles.
type settling struct {
	started <-chan struct{} // closed when the start is over; nil: that is so when it is quiet for the first time
	cool    func()          // lets go of what can be made again; nil: there is nothing
	burst   uint64          // it is worth a collection when so many bytes were allocated since the last, and as much as is alive
	hurries bool            // it collects less often while it works
	percent int             // GOGC, unless who started the process says; 0: Go's own
	mapped  time.Duration   // pages of the binary that come back stay for at most so long while it is quiet
}

// settle gives back memory that only the start needed once that is over, and after a burst of work when it has become quiet. Go
// keeps what a burst needed for the next one, as garbage that nobody has collected and as free pages, for minutes and more.
func (s settling) settle(ctx context.Context, log *slog.Logger) {
	if !s.begun(ctx) {
		return
	}
	early.End()
	if s.percent > 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(s.percent)
	}
	s.giveBack(log)
	q := quiet{burst: s.burst, seen: allocated(), given: allocated()}
	m := mapped{last: s.mapped}
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
		if s.hurries {
			p.set(!still, live)
		}
		switch {
		case burst:
			s.giveBack(log)
			m.trimmed(residentFiles(), time.Now(), true)
		case still && m.grown(residentFiles(), time.Now()):
			large := inLargePieces(residentFiles())
			trim(log)
			if large {
				if err := dropBinary(); err != nil {
					log.Debug("The binary stayed in the page cache", "err", err)
				}
			}
			m.trimmed(residentFiles(), time.Now(), false)
		}
	}
}

// begun waits until the start is over; false: ctx has ended before.
func (s settling) begun(ctx context.Context) bool {
	over, q := s.started, quiet{burst: s.burst, seen: allocated()}
	tick := time.NewTicker(quietInterval)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return true
		case <-tick.C:
			if still, _ := q.look(allocated(), 0); still && over == nil {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

func (s settling) giveBack(log *slog.Logger) {
	if s.cool != nil {
		s.cool()
	}
	debug.FreeOSMemory()
	trim(log)
}

func trim(log *slog.Logger) {
	if err := trimBinary(); err != nil {
		log.Debug("Pages of the binary were kept", "err", err)
	}
}

// inLargePieces: what came back of the binary is more than anything needs of it.
func inLargePieces(resident uint64) bool {
	size := binarySize()
	return size > 0 && resident > size/2
}

const (
	quietInterval = 2 * time.Second
	quietBursts   = 4 // a process is quiet that allocated no more in an interval than this part of a burst,
	quietPart     = 4 // or of what is alive: a thousand nodes renew a hundred leases a second

	mappedBytes = 8 << 20          // pages of the binary that came back are let go when they are more than these,
	mappedFirst = 10 * time.Second // not sooner after the last time
)

// quiet notices the end of bursts by the bytes that were ever allocated.
type quiet struct {
	burst uint64 // bytes that make one
	seen  uint64 // at the last look
	given uint64 // when memory was last given back
}

// look tells whether it is quiet and, if so, whether that ends a burst after which there is memory to give back, from the
// bytes that were ever allocated and those that are alive.
func (q *quiet) look(allocated, alive uint64) (still, burst bool) {
	still = allocated-q.seen <= max(q.burst/quietBursts, alive/quietPart)
	q.seen = allocated
	if !still || allocated-q.given < max(q.burst, alive) {
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
	last time.Duration // the longest wait
}

func (m *mapped) grown(resident uint64, now time.Time) bool {
	return resident > m.left+mappedBytes && !now.Before(m.next)
}

// trimmed tells how much is left. burst: what comes now is something else than before.
func (m *mapped) trimmed(left uint64, now time.Time, burst bool) {
	m.wait = min(2*m.wait, m.last)
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
