package object

import (
	"sync"
	"sync/atomic"
)

// Hot keeps decoded objects and protobuf of all resources of a control plane in memory, within a bound of estimated
// bytes. What was used since it came to the front of the queue gets another round, what was not is let go (it may
// still live for as long as somebody holds it), and so is what belongs to a state that is no longer the present one.
type Hot struct {
	max int64

	mu          sync.Mutex
	bytes       int64
	first, last *item // a queue
}

// NewHot returns a Hot of at most max estimated bytes.
func NewHot(max int64) *Hot {
	return &Hot{max: max}
}

// item is embedded in what a Hot keeps, which lives for as long as a pointer to its item does.
type item struct {
	bytes      int64
	used       atomic.Bool
	kept       bool // the rest is of the Hot that keeps it
	prev, next *item
}

// Bytes tells how much is kept, in estimated bytes.
func (h *Hot) Bytes() int64 {
	if h == nil {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes
}

func (h *Hot) add(i *item) {
	if h == nil || i.bytes > h.max/4 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// Each turn lets go or clears a mark, so at most two rounds are needed.
	for h.bytes+i.bytes > h.max && h.first != nil {
		old := h.first
		h.unlink(old)
		if old.used.CompareAndSwap(true, false) {
			h.push(old)
		}
	}
	h.push(i)
}

// Cool lets go of everything: after a burst of work most of it is not asked for again soon.
func (h *Hot) Cool() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.first != nil {
		h.unlink(h.first)
	}
}

// drop lets go of what may be kept.
func (h *Hot) drop(i *item) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if i.kept {
		h.unlink(i)
	}
}

func (h *Hot) push(i *item) {
	i.kept, i.prev = true, h.last
	if h.last != nil {
		h.last.next = i
	} else {
		h.first = i
	}
	h.last = i
	h.bytes += i.bytes
}

func (h *Hot) unlink(i *item) {
	if i.prev != nil {
		i.prev.next = i.next
	} else {
		h.first = i.next
	}
	if i.next != nil {
		i.next.prev = i.prev
	} else {
		h.last = i.prev
	}
	i.kept, i.prev, i.next = false, nil, nil
	h.bytes -= i.bytes
}
