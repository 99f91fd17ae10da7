package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Libraries log warnings and errors that any client can bring about: a token that is not one, a timeout that does not
// parse, a watch that breaks off. Each place in their code may say so many at once, and then one each time that passed.
const (
	limitBurst   = 20
	limitEvery   = 3 * time.Second
	limitMessage = 8 << 10 // bytes of a message: some quote what the client sent
)

// limit bounds the warnings and errors from each place in the code. What is let through tells how many were not.
type limit struct {
	slog.Handler
	sites *sites
}

func newLimit(h slog.Handler) limit { return limit{h, &sites{all: map[uintptr]*site{}}} }

// Handle implements slog.Handler.
func (l limit) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		dropped, ok := l.sites.take(r.PC, r.Time)
		if !ok {
			return nil
		}
		if dropped > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int("suppressed", dropped))
		}
	}
	if len(r.Message) > limitMessage {
		r = r.Clone()
		r.Message = strings.ToValidUTF8(r.Message[:limitMessage], "") + "…"
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l limit) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limit{l.Handler.WithAttrs(attrs), l.sites}
}

// WithGroup implements slog.Handler.
func (l limit) WithGroup(name string) slog.Handler { return limit{l.Handler.WithGroup(name), l.sites} }

// sites are the places that log, by program counter: as many as there are in the code at most.
type sites struct {
	mu  sync.Mutex
	all map[uintptr]*site
}

type site struct {
	spent   int       // of the burst
	since   time.Time // from when on what was spent comes back
	dropped int       // since something was let through
}

// take tells whether a place may log now, and how many it has dropped since it last did.
func (s *sites) take(pc uintptr, now time.Time) (dropped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.all[pc]
	if at == nil {
		at = &site{since: now}
		s.all[pc] = at
	}
	if back := int(now.Sub(at.since) / limitEvery); back > 0 {
		at.spent = max(0, at.spent-back)
		at.since = at.since.Add(time.Duration(back) * limitEvery)
	}
	if at.spent >= limitBurst {
		at.dropped++
		return 0, false
	}
	at.spent++
	dropped, at.dropped = at.dropped, 0
	return dropped, true
}
