package read

import (
	"slices"
	"sync"

	"github.com/rowlock-io/rowlock/storage"
)

// run is a stretch of a list, compressed on its own, so that it can stand in any list in which the same states of the
// same objects follow each other.
type run struct {
	key       runKey
	revisions []storage.Revision // what is in it
	data      []byte             // deflate blocks that end at a byte and refer to nothing in front of them
	crc       uint32             // of what went in
	shift     uint32             // of its length
	size      int                // its length
}

// runKey finds a run; revisions tell whether it is the right one. Within a cluster a revision is one state of one object.
type runKey struct {
	res   *Resource
	media media
	first bool // at the start of the items, where JSON has no comma
	count int
	head  storage.Revision
	hash  uint64
}

// runs keeps compressed runs within a bound, the last ones made.
type runs struct {
	mu    sync.Mutex
	max   int64
	bytes int64
	kept  map[runKey]*run
	queue []*run // oldest first
}

// runOverhead is what a kept run takes beside its data and revisions, estimated.
const runOverhead = 200

func (r *run) cost() int64 { return int64(cap(r.data)+8*cap(r.revisions)) + runOverhead }

func revisionsOf(items []piece) []storage.Revision {
	revs := make([]storage.Revision, len(items))
	for n := range items {
		revs[n] = items[n].revision
	}
	return revs
}

func (s *runs) get(key runKey, items []piece) *run {
	s.mu.Lock()
	r := s.kept[key]
	s.mu.Unlock()
	if r == nil || !slices.EqualFunc(r.revisions, items, func(rev storage.Revision, p piece) bool { return rev == p.revision }) {
		return nil
	}
	return r
}

func (s *runs) put(r *run) {
	if r.cost() > s.max/4 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[runKey]*run{}
	}
	if old := s.kept[r.key]; old != nil {
		return // another list was faster
	}
	for s.bytes+r.cost() > s.max {
		old := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		delete(s.kept, old.key)
		s.bytes -= old.cost()
	}
	s.kept[r.key] = r
	s.queue = append(s.queue, r)
	s.bytes += r.cost()
}

const (
	// runMask: a run ends with an object whose revision has none of these bits, so that a changed object spoils its own
	// run and leaves the borders of all others where they are.
	runMask = 63
	// maxRunBytes and maxRunItems bound a run where no border comes.
	maxRunBytes = 256 << 10
	maxRunItems = 256
)

// cut returns how many of the items, at least one, make the next run, and its key.
func cut(items []piece) (n int, hash uint64) {
	size := 0
	for n < len(items) {
		it := &items[n]
		hash = (hash ^ uint64(it.revision)) * 0x9e3779b97f4a7c15
		size += len(it.data)
		n++
		if it.revision&runMask == 0 || size >= maxRunBytes || n >= maxRunItems {
			break
		}
	}
	return n, hash
}
