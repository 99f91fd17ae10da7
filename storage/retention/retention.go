// Package retention lets go of a cluster's history once it is older, or larger, than it may be.
//
// Every replica runs it; they need no agreement, because compacting twice does what compacting once does. It never
// touches the present. A cluster that nothing happens in costs one small query each interval and no write.
package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowlock-io/rowlock/storage"
)

// Defaults of Config.
const (
	DefaultMaxAge   = 24 * time.Hour
	DefaultInterval = time.Minute
)

// Config says what is kept. Only Store is needed.
type Config struct {
	Store    storage.Store
	MaxAge   time.Duration          // of a change that is kept; 0: 24 h; negative: any age
	MaxBytes int64                  // of the log; 0: any size
	Interval time.Duration          // between looks; 0: one minute, or MaxAge when that is less, but no less than a second
	Floor    func(storage.Revision) // told how far the log is compacted, by this replica or another; may be nil
	Log      *slog.Logger
	Metrics  *Metrics
}

// Metrics counts for all clusters that share it.
type Metrics struct{ compactions *prometheus.CounterVec }

// NewMetrics makes the series and registers them with reg.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{compactions: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "storage_compactions_total",
		Help: "Attempts to let go of old history, by result: done or failed.",
	}, []string{"result"})}
	for _, result := range []string{"done", "failed"} {
		m.compactions.WithLabelValues(result)
	}
	if err := reg.Register(m.compactions); err != nil {
		return nil, fmt.Errorf("register retention metrics: %w", err)
	}
	return m, nil
}

// Run keeps the bounds until ctx ends, when it returns nil, or the store is closed, when it returns storage.ErrClosed.
// While the database is away it tries again at the next interval. The first look comes after one interval, not at the
// start, when there is more pressing work.
func Run(ctx context.Context, cfg Config) error {
	k := newKeeper(cfg)
	if k.maxAge <= 0 && k.maxBytes <= 0 {
		<-ctx.Done()
		return nil
	}
	for {
		// Jitter, so that replicas started together mostly find the work done.
		t := time.NewTimer(k.interval + rand.N(k.interval/8+1))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		err := k.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, storage.ErrClosed):
			return err
		}
		k.report(ctx, err)
	}
}

type keeper struct {
	store    storage.Store
	maxAge   time.Duration
	maxBytes int64
	interval time.Duration
	tell     func(storage.Revision)
	log      *slog.Logger
	metrics  *Metrics

	floor   storage.Revision // as far as is known; it only rises
	failing bool
}

func newKeeper(cfg Config) *keeper {
	k := &keeper{
		store: cfg.Store, maxAge: cfg.MaxAge, maxBytes: max(cfg.MaxBytes, 0), interval: cfg.Interval,
		tell: cfg.Floor, log: cfg.Log, metrics: cfg.Metrics,
	}
	switch {
	case k.maxAge == 0:
		k.maxAge = DefaultMaxAge
	case k.maxAge < 0:
		k.maxAge = 0
	}
	if k.interval <= 0 {
		k.interval = DefaultInterval
		if k.maxAge > 0 {
			k.interval = max(min(k.interval, k.maxAge), time.Second)
		}
	}
	if k.tell == nil {
		k.tell = func(storage.Revision) {}
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	return k
}

// look compacts what may go. It writes only if something may that no replica has let go yet.
func (k *keeper) look(ctx context.Context) error {
	horizon, err := k.store.Horizon(ctx, k.maxAge, k.maxBytes)
	if err != nil {
		return fmt.Errorf("find what history may go: %w", err)
	}
	if horizon <= k.floor {
		return nil
	}
	if k.floor, err = k.store.Floor(ctx); err != nil {
		return fmt.Errorf("find the compaction floor: %w", err)
	}
	k.tell(k.floor)
	if horizon <= k.floor {
		return nil
	}
	if err := k.store.Compact(ctx, horizon); err != nil {
		return fmt.Errorf("compact through %d: %w", horizon, err)
	}
	k.log.DebugContext(ctx, "Compacted history", "from", k.floor, "through", horizon)
	k.floor = horizon
	k.tell(k.floor)
	if k.metrics != nil {
		k.metrics.compactions.WithLabelValues("done").Inc()
	}
	return nil
}

// report logs the first failure of a row, and its end.
func (k *keeper) report(ctx context.Context, err error) {
	if err != nil && k.metrics != nil {
		k.metrics.compactions.WithLabelValues("failed").Inc()
	}
	if failing := err != nil; failing != k.failing {
		k.failing = failing
		if failing {
			k.log.WarnContext(ctx, "Could not compact history and kept trying", "err", err)
		} else {
			k.log.InfoContext(ctx, "Compacted history again")
		}
	}
}
