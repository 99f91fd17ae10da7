package cache

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/rowlock-io/rowlock/storage"
)

// Defaults of Config.
const (
	DefaultRingBytes   = 16 << 20
	DefaultRingEntries = 100_000
)

// Config is what a Cache is made of. Only Store is needed.
type Config struct {
	Store storage.Store
	// RingBytes and RingEntries bound the history that is kept in memory for watchers, for all resources together.
	// Bytes count the states that only the history still holds, and what a change itself takes.
	RingBytes   int64
	RingEntries int
	// Budget bounds the bytes of present objects; nil: nothing does.
	Budget *Budget
	// Trace, when not nil, is told of each wait for the present with the caller's context. What it returns, when not nil, is
	// told of the end.
	Trace   func(context.Context) (end func(error))
	Log     *slog.Logger
	Metrics *Metrics
}

// Cache is one cluster's present and recent past in memory. It is safe for concurrent use.
type Cache struct {
	store   storage.Store
	log     *slog.Logger
	metrics *Metrics
	cfg     Config
	budget  *Budget

	ready   chan struct{} // closed after the first load
	world   atomic.Pointer[world]
	moved   bell // rung when the position moved
	waiters atomic.Int64
	head    head
	past    past
	slow    chan struct{} // a token each for watchers that read the log themselves
	seen    atomic.Uint64 // the newest revision known to exist
	watches atomic.Int64

	// wakeLog asks the reader to read on until it has caught up, wakeGap only up to the pending commits.
	wakeLog, wakeGap chan struct{}

	life    context.Context // of the cache: ends when Run returns
	endLife context.CancelFunc
	wg      sync.WaitGroup // everything started on behalf of the cache

	mu      sync.Mutex // held by the publisher
	pending pending
	broken  bool // the world and the log do not fit together: the reader must load afresh
	closed  bool
}

// coolPart of the history in memory stays when it is quiet.
const coolPart = 4

// Cool lets go of most of the history in memory: when nothing has happened for a while, those who watch have seen it. Whoever
// has not reads the log.
func (c *Cache) Cool() {
	w := c.world.Load()
	if w != nil {
		w.keepUp()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w != nil {
		w.ledger.trimTo(w.ledger.maxBytes / coolPart)
	}
}

// slowReaders is how many watchers that fell behind may read the log at the same time.
const slowReaders = 4

// New makes a cache that is empty until Run has loaded it.
func New(cfg Config) *Cache {
	if cfg.RingBytes <= 0 {
		cfg.RingBytes = DefaultRingBytes
	}
	if cfg.RingEntries <= 0 {
		cfg.RingEntries = DefaultRingEntries
	}
	if cfg.Budget == nil {
		cfg.Budget = NewBudget(0)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cache{
		store: cfg.Store, log: cfg.Log, metrics: cfg.Metrics, cfg: cfg, budget: cfg.Budget,
		ready:   make(chan struct{}),
		slow:    make(chan struct{}, slowReaders),
		wakeLog: make(chan struct{}, 1),
		wakeGap: make(chan struct{}, 1),
	}
	c.life, c.endLife = context.WithCancel(context.Background())
	return c
}

// Ready is closed after the first load.
func (c *Cache) Ready() <-chan struct{} { return c.ready }

// Position is what the cache has reached: everything up to it, and of each resource possibly the next commit, can be
// read. It is zero before the first load. Within an epoch it never goes back.
func (c *Cache) Position() storage.Position {
	if w := c.world.Load(); w != nil {
		return w.position()
	}
	return storage.Position{}
}

// Get returns the present state of a key, nil when there is none, and the position at which that holds. It takes no
// lock.
func (c *Cache) Get(key storage.Key) (*Entry, storage.Position) {
	w := c.world.Load()
	if w == nil {
		return nil, storage.Position{}
	}
	r := w.find(key.Resource)
	if r == nil {
		// Look at the position first: a resource that appears in between is newer than it.
		at := w.position()
		if r = w.find(key.Resource); r == nil {
			return nil, at
		}
	}
	v, rev := r.read()
	return w.get(v.tree, key.Namespace, key.Name), storage.Position{Epoch: w.epoch, Revision: rev}
}

// signal makes a coalescing channel ready.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// loaded waits for the first load.
func (c *Cache) loaded(ctx context.Context) (*world, error) {
	select {
	case <-c.ready:
		return c.world.Load(), nil
	default:
	}
	select {
	case <-c.ready:
		return c.world.Load(), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.life.Done():
		return nil, storage.ErrClosed
	}
}
