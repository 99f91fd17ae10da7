package cache

import (
	"sync"
	"sync/atomic"

	"github.com/rowlock-io/rowlock/storage"
)

// gate is what waiters sleep on. It opens once.
//
// Whoever took a gate and then read everything up to some revision knows that nothing newer concerns it while the gate
// is unmarked, and that nothing up to quiet does once it is marked. So a watcher of one quiet name keeps up with a busy
// resource without reading the resource's history.
type gate struct {
	open   chan struct{}
	marked atomic.Bool
	quiet  storage.Revision // valid once marked
}

// bell is where waiters of one kind meet. The zero value is ready.
type bell struct {
	cur atomic.Pointer[gate]
}

// gate returns the gate that the next ring opens. Take it first, then look, then sleep.
func (b *bell) gate() *gate {
	for {
		if g := b.cur.Load(); g != nil {
			return g
		}
		g := &gate{open: make(chan struct{})}
		if b.cur.CompareAndSwap(nil, g) {
			return g
		}
	}
}

// mark says, before the position moves, that first is the first change since the last ring that concerns the waiters.
// It must happen before the position moves, or a waiter could see the new position beside an unmarked gate.
func (b *bell) mark(first storage.Revision) {
	g := b.gate()
	if !g.marked.Load() {
		g.quiet = first - 1
		g.marked.Store(true)
	}
}

// ring wakes all waiters; call it after what they wait for can be seen.
func (b *bell) ring() {
	if g := b.cur.Swap(nil); g != nil {
		close(g.open)
	}
}

// place is the part of a selection within one resource.
type place struct{ namespace, name string }

// bells holds one bell for each selection that is being watched within one resource.
type bells struct {
	mu    sync.Mutex
	rooms map[place]*room
	// how many rooms there are of each shape, so that publishing skips look-ups that cannot hit
	shapes [4]int
	struck []*bell // scratch of one publish: marked, not yet rung
}

type room struct {
	bell
	watchers int
}

func (p place) shape() int {
	s := 0
	if p.namespace != "" {
		s |= 1
	}
	if p.name != "" {
		s |= 2
	}
	return s
}

func (bs *bells) enter(p place) *bell {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	r := bs.rooms[p]
	if r == nil {
		if bs.rooms == nil {
			bs.rooms = map[place]*room{}
		}
		r = &room{}
		bs.rooms[p] = r
		bs.shapes[p.shape()]++
	}
	r.watchers++
	return &r.bell
}

func (bs *bells) leave(p place) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	r := bs.rooms[p]
	if r.watchers--; r.watchers == 0 {
		delete(bs.rooms, p)
		bs.shapes[p.shape()]--
	}
}

// mark marks the bells that the changes concern. The publisher calls mark, moves the position, and calls ring; a bell
// that is entered in between belongs to a watcher that has yet to look for the first time.
func (bs *bells) mark(changes []Change) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if len(bs.rooms) == 0 {
		return
	}
	for i := range changes {
		e := changes[i].Entry
		for shape, n := range bs.shapes {
			if n == 0 {
				continue
			}
			var p place
			if shape&1 != 0 {
				p.namespace = e.Namespace
			}
			if shape&2 != 0 {
				p.name = e.Name
			}
			if r := bs.rooms[p]; r != nil && p.shape() == shape && !r.isMarked() {
				r.mark(e.Revision)
				bs.struck = append(bs.struck, &r.bell)
			}
		}
	}
}

func (b *bell) isMarked() bool {
	g := b.cur.Load()
	return g != nil && g.marked.Load()
}

// ring rings what was marked. Like mark, it is for the publisher alone.
func (bs *bells) ring() {
	for _, b := range bs.struck {
		b.ring()
	}
	clear(bs.struck)
	bs.struck = bs.struck[:0]
}

// ringAll rings every bell, marked or not.
func (bs *bells) ringAll() {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	for _, r := range bs.rooms {
		r.ring()
	}
}
