package cache

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// backoff spaces out attempts while the database is away, and logs the first failure and the recovery only.
type backoff struct {
	log   *slog.Logger
	delay time.Duration
}

// wait sleeps before the next attempt; false when ctx ended.
func (b *backoff) wait(ctx context.Context, err error) bool {
	if b.delay == 0 {
		b.log.WarnContext(ctx, "Could not read the log and kept trying", "err", err)
		b.delay = minBackoff
	}
	// Jitter, so that replicas do not come back all at once.
	t := time.NewTimer(b.delay/2 + rand.N(b.delay))
	defer t.Stop()
	b.delay = min(2*b.delay, maxBackoff)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *backoff) reset() {
	if b.delay != 0 {
		b.log.Info("Read the log again")
		b.delay = 0
	}
}
