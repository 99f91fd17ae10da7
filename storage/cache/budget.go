package cache

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rowlock-io/rowlock/storage"
)

// Budget bounds the bytes of present objects that the caches which share it keep in memory. Beyond it those that nobody has
// asked for lately are dropped, and read from the store when they are asked for. Keys, revisions and what the layer above
// knows of an entry stay. What is written and read in a burst may go beyond the bound for as long as it takes to drop as much.
type Budget struct {
	max     int64 // 0: no bound
	kept    atomic.Int64
	loads   atomic.Int64 // from the store, of objects
	dropped atomic.Int64

	mu       sync.Mutex
	caches   map[*Cache]*hand
	visitors visitors
	sweeping bool
}

// hand is how far the search for what nobody has asked for has come in a cache: round and round.
type hand struct {
	kept     int64 // the cache's part
	resource string
	key      storage.Key
}

// visitors are entries whose bytes were read from the store: mostly by somebody who reads everything once. They have a part
// of the budget, in which who came first leaves first.
type visitors struct {
	queue []*Entry
	bytes int64
}

const (
	visitorPart     = 8       // of the budget is for visitors,
	minVisitorBytes = 4 << 20 // but no less than what a few readers read ahead, unless that is half of it
	visitorOverhead = 200     // of each, beside its bytes
	sweepPart       = 16      // of the budget is made room for at a time
)

// NewBudget returns a budget of at most so many bytes; 0: no bound.
func NewBudget(maxBytes int64) *Budget {
	return &Budget{max: maxBytes, caches: map[*Cache]*hand{}}
}

// Kept is the number of bytes in memory.
func (b *Budget) Kept() int64 { return b.kept.Load() }

// Loads is how many objects were read from the store because their bytes had been dropped.
func (b *Budget) Loads() int64 { return b.loads.Load() }

// Dropped is how many objects' bytes were dropped.
func (b *Budget) Dropped() int64 { return b.dropped.Load() }

func (b *Budget) over(more int64) bool { return b.max > 0 && b.kept.Load()+more > b.max }

func (b *Budget) add(c *Cache) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.caches[c] = &hand{}
}

// remove takes a cache's part out of the account, for good.
func (b *Budget) remove(c *Cache) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.caches[c]; h != nil {
		b.kept.Add(-h.kept)
		delete(b.caches, c)
	}
	b.visitors.queue = slices.DeleteFunc(b.visitors.queue, func(e *Entry) bool {
		if e.source.cache != c {
			return false
		}
		b.visitors.bytes -= int64(e.size) + visitorOverhead
		return true
	})
}

// account changes a cache's part. The caller holds mu.
func (b *Budget) account(c *Cache, bytes int64) {
	if h := b.caches[c]; h != nil {
		h.kept += bytes
		b.kept.Add(bytes)
	}
}

// settle accounts for what a publish added or took away.
func (b *Budget) settle(c *Cache, bytes int64) {
	if bytes == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.account(c, bytes)
}

// count marks an entry as counted, and returns the bytes to account for.
func (e *Entry) count() int64 {
	for {
		m := e.mode.Load()
		if m&(counted|superseded) != 0 || e.source == nil {
			return 0
		}
		if e.mode.CompareAndSwap(m, m|counted) {
			return int64(e.size)
		}
	}
}

// uncount undoes count, and marks the entry.
func (e *Entry) uncount(mark uint32) int64 {
	for {
		m := e.mode.Load()
		if !e.mode.CompareAndSwap(m, m&^counted|mark) {
			continue
		}
		if m&counted == 0 {
			return 0
		}
		return -int64(e.size)
	}
}

// evict drops the bytes of an entry that is counted, and returns what to account for.
func (b *Budget) evict(e *Entry, mark uint32) int64 {
	if e.mode.Load()&(counted|superseded) != counted {
		return 0
	}
	if aux, can := e.Aux().(interface{ Evicted() (keep, ok bool) }); can {
		keep, ok := aux.Evicted()
		if !ok {
			return 0
		}
		if !keep {
			e.aux.Store(nil)
		}
	}
	freed := e.uncount(mark)
	if freed != 0 {
		e.data.Store(nil)
		b.dropped.Add(1)
	}
	return freed
}

// loaded takes entries into account whose bytes had been dropped and have just been read.
func (b *Budget) loaded(c *Cache, entries []*Entry) {
	b.loads.Add(int64(len(entries)))
	b.visit(c, entries)
	b.relieve(c)
}

// visitorBytes is the part of visitors.
func (b *Budget) visitorBytes() int64 { return max(b.max/visitorPart, min(minVisitorBytes, b.max/2)) }

// visit takes entries into account that have just been read.
func (b *Budget) visit(c *Cache, entries []*Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := b.visitorBytes()
	for _, e := range entries {
		again := e.mode.Load()&visited != 0
		b.account(c, e.count())
		if b.max == 0 || again && !b.over(0) {
			continue // it is asked for again and again: a resident
		}
		v := &b.visitors
		v.queue = append(v.queue, e)
		v.bytes += int64(e.size) + visitorOverhead
		for v.bytes > room && len(v.queue) > 1 {
			old := v.queue[0]
			v.queue[0] = nil
			v.queue = v.queue[1:]
			v.bytes -= int64(old.size) + visitorOverhead
			b.account(old.source.cache, b.evict(old, visited))
		}
	}
}

// relieve starts a sweep when there is too much and none under way. It runs on behalf of a cache.
func (b *Budget) relieve(c *Cache) {
	if !b.over(0) {
		return
	}
	b.mu.Lock()
	start := !b.sweeping
	b.sweeping = true
	b.mu.Unlock()
	if !start {
		return
	}
	go func() {
		// begin takes the cache's lock, which the caller holds.
		if c.begin() {
			defer c.wg.Done()
			b.sweep(c)
		}
		b.mu.Lock()
		b.sweeping = false
		b.mu.Unlock()
	}()
}

// sweep goes through the caches, dropping what was not used since it came by last, until there is room. After two
// rounds there is nothing left to drop.
func (b *Budget) sweep(on *Cache) {
	low := b.max - b.max/sweepPart
	for range 2 {
		b.mu.Lock()
		all := slices.Collect(maps.Keys(b.caches))
		b.mu.Unlock()
		for _, c := range all {
			if b.sweepCache(c, low) || on.life.Err() != nil {
				return
			}
		}
	}
}

// sweepBatch is how many entries are looked at between two looks at the account.
const sweepBatch = 1024

// sweepCache goes once through a cache from where it came to before. It tells whether there is room.
func (b *Budget) sweepCache(c *Cache, low int64) bool {
	b.mu.Lock()
	h := b.caches[c]
	b.mu.Unlock()
	w := c.world.Load()
	if h == nil || w == nil {
		return b.kept.Load() <= low
	}
	names := c.Resources()
	first, found := slices.BinarySearch(names, h.resource)
	if !found {
		h.key = storage.Key{}
	}
	left := int(w.objects.Load()) // one round
	for i := 0; left > 0 && i <= len(names); i++ {
		if len(names) == 0 {
			break
		}
		h.resource = names[(first+i)%len(names)]
		snap := c.Snapshot(h.resource)
		for left > 0 {
			surplus := b.kept.Load() - low
			if surplus <= 0 {
				return true
			}
			seen, freed := 0, int64(0)
			snap.Scan("", h.key, func(e *Entry) bool {
				seen++
				h.key = e.Key
				if m := e.mode.Load(); m&(used|visited) != 0 {
					e.mode.And(^uint32(used | visited))
					if m&used != 0 {
						return seen < sweepBatch
					}
				}
				freed -= b.evict(e, 0)
				return seen < sweepBatch && freed < surplus
			})
			b.settle(c, -freed)
			left -= seen
			if seen < sweepBatch && freed < surplus {
				break
			}
		}
		if left > 0 {
			h.key = storage.Key{}
		}
	}
	return b.kept.Load() <= low
}
