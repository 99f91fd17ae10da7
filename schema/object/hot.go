package object

import (
	"sync"
	"sync/atomic"
)

// Hot keeps decoded objects and protobuf of all resources of a control plane in memory, within a bound of estimated
// bytes. What was used since it came to the front of the queue gets another round, what was not is let go (it may
// still live for as long as somebody holds it).
type Hot struct {
	max int64

	mu    sync.Mutex
	bytes int64
	queue []member // a ring
	first int
	count int
}

// NewHot returns a Hot of at most max estimated bytes.
func NewHot(max int64) *Hot {
	return &Hot{max: max}
}

type member interface{ hot() *item }

// item is embedded in what a Hot keeps.
type item struct {
	bytes int64
	used  atomic.Bool
}

func (i *item) hot() *item { return i }

// Bytes tells how much is kept, in estimated bytes.
func (h *Hot) Bytes() int64 {
	if h == nil {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes
}

func (h *Hot) add(m member) {
	size := m.hot().bytes
	if h == nil || size > h.max/4 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// Each turn lets go or clears a mark, so at most two rounds are needed.
	for h.bytes+size > h.max && h.count > 0 {
		old := h.pop()
		if old.hot().used.CompareAndSwap(true, false) {
			h.push(old)
			continue
		}
		h.bytes -= old.hot().bytes
	}
	h.push(m)
	h.bytes += size
}

func (h *Hot) push(m member) {
	if h.count == len(h.queue) {
		grown := make([]member, max(64, 2*len(h.queue)))
		for i := range h.count {
			grown[i] = h.queue[(h.first+i)%len(h.queue)]
		}
		h.queue, h.first = grown, 0
	}
	h.queue[(h.first+h.count)%len(h.queue)] = m
	h.count++
}

func (h *Hot) pop() member {
	m := h.queue[h.first]
	h.queue[h.first] = nil
	h.first = (h.first + 1) % len(h.queue)
	h.count--
	return m
}
