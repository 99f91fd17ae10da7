package cache

import (
	"sort"
	"sync/atomic"

	"github.com/rowlock-io/rowlock/storage"
)

// changeOverhead is what a change in the history costs beside the data of the state that it replaced: the Change, its
// Entry and the key strings.
const changeOverhead = 200

const (
	minChunk = 16
	maxChunk = 256
)

// chunk is a stretch of one resource's history. Items below n are final.
type chunk struct {
	of    *resource
	items []Change
	n     atomic.Int32
	first storage.Revision
	bytes int64 // publisher only
}

func (ch *chunk) filled() []Change { return ch.items[:ch.n.Load()] }

// history is one resource's recent changes: everything after floor. It is immutable, but for the filling of the
// last chunk.
type history struct {
	floor  storage.Revision
	chunks []*chunk
}

// after returns changes after rev, in order, as far as one chunk goes, and whether that is all there is. rev must not
// be below the floor.
func (h *history) after(rev storage.Revision) (changes []Change, all bool) {
	i := len(h.chunks) - 1
	if i < 0 {
		return nil, true
	}
	if h.chunks[i].first > rev {
		// the last chunk that starts at or below rev, if any
		i = sort.Search(len(h.chunks), func(i int) bool { return h.chunks[i].first > rev }) - 1
		i = max(i, 0)
	}
	for ; i < len(h.chunks); i++ {
		items := h.chunks[i].filled()
		if n := len(items); n == 0 || items[n-1].Entry.Revision <= rev {
			continue
		}
		from := 0
		if items[0].Entry.Revision <= rev {
			from = sort.Search(len(items), func(i int) bool { return items[i].Entry.Revision > rev })
		}
		return items[from:len(items):len(items)], i == len(h.chunks)-1
	}
	return nil, true
}

// ledger bounds the histories of all resources together; the oldest chunk of all goes first. The publisher owns it;
// the sums may be read by anyone.
type ledger struct {
	maxBytes, maxEntries int64
	queue                []*chunk // in the order of their first revisions
	bytes, entries       atomic.Int64
}

// push appends changes to a resource's history.
func (l *ledger) push(r *resource, changes []Change) {
	for i := range changes {
		ch := r.tail
		if ch == nil || int(ch.n.Load()) == len(ch.items) || ch.bytes > l.maxBytes/16 {
			size := minChunk
			if ch != nil {
				size = min(2*len(ch.items), maxChunk)
			}
			ch = &chunk{of: r, items: make([]Change, size), first: changes[i].Entry.Revision}
			h := r.history.Load()
			// Appending in place is fine: readers of the old history do not look beyond its length.
			r.history.Store(&history{floor: h.floor, chunks: append(h.chunks, ch)})
			r.tail = ch
			l.queue = append(l.queue, ch)
			r.world.lag()
		}
		n := ch.n.Load()
		ch.items[n] = changes[i]
		ch.n.Store(n + 1)
		cost := int64(changeOverhead)
		if p := changes[i].Prev; p != nil {
			// The state after lives in the tree anyhow; the state before lives on only because of this change.
			cost += int64(p.size)
		}
		ch.bytes += cost
		l.bytes.Add(cost)
		l.entries.Add(1)
	}
}

// trim drops the oldest chunks until the bounds hold.
func (l *ledger) trim() { l.trimTo(l.maxBytes) }

func (l *ledger) trimTo(maxBytes int64) {
	for len(l.queue) > 0 && (l.bytes.Load() > maxBytes || l.entries.Load() > l.maxEntries) {
		ch := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		items := ch.filled()
		h := ch.of.history.Load()
		// A copy, so that no backing array keeps what was dropped.
		rest := make([]*chunk, len(h.chunks)-1, len(h.chunks))
		copy(rest, h.chunks[1:])
		ch.of.history.Store(&history{floor: items[len(items)-1].Entry.Revision, chunks: rest})
		if ch.of.tail == ch {
			ch.of.tail = nil
		}
		l.bytes.Add(-ch.bytes)
		l.entries.Add(-int64(len(items)))
	}
}
