package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/rowlock-io/rowlock/storage"
)

const (
	// readTimeout bounds one read of dropped bytes, on which nobody's context has a say: others may be glad of it.
	readTimeout = 30 * time.Second

	maxAhead      = 512
	maxAheadBytes = 1 << 20
	aheadPart     = 4 // of the visitors' part of the budget, at most: what is read ahead has to last until it is asked for
	// aheadGap is how many objects that were dropped may lie between two reads for them to look like those of one reader, and
	// aheadSkip how many that are in memory.
	aheadGap, aheadSkip = 8, 256
)

// source reads bytes that were dropped. There is one for each epoch of a cache.
type source struct {
	cache *Cache

	mu      sync.Mutex
	streams [4]stream // last used last
}

// stream is somebody who seems to read one object after the other.
type stream struct {
	last  storage.Key // that was read
	count int         // at a time
}

// read returns an entry's bytes from the store, and puts them back into memory, perhaps with those of the next ones.
func (s *source) read(e *Entry) ([]byte, error) {
	if s.cache.life.Err() != nil {
		return nil, fmt.Errorf("read %s at %d: %w", e.Key, e.Revision, storage.ErrClosed)
	}
	ctx, cancel := context.WithTimeout(s.cache.life, readTimeout)
	defer cancel()
	if after, wanted, rows := s.ahead(e); len(wanted) > 1 {
		// What goes wrong here shows again when the object alone is asked for.
		if data := s.readMany(ctx, after, wanted, rows); data != nil {
			return data, nil
		}
	}
	data, err := s.readOne(ctx, e)
	switch {
	case s.cache.life.Err() != nil:
		err = storage.ErrClosed
	case err == nil && len(data) != int(e.size):
		err = storage.ErrCompacted // a state of a past that was lost
	}
	if err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", e.Key, e.Revision, err)
	}
	e.data.Store(unsafe.SliceData(data))
	s.cache.budget.loaded(s.cache, []*Entry{e})
	return data, nil
}

// readOne asks for one state: the present one, as a rule.
func (s *source) readOne(ctx context.Context, e *Entry) ([]byte, error) {
	if e.mode.Load()&deletion != 0 {
		b, err := s.cache.store.Changes(ctx, e.Revision-1, 1)
		if err != nil {
			return nil, err
		}
		if len(b.Changes) == 0 || b.Changes[0].Revision != e.Revision {
			return nil, storage.ErrCompacted
		}
		return b.Changes[0].Prev, nil
	}
	if e.mode.Load()&superseded == 0 {
		o, err := s.cache.store.Get(ctx, e.Key, 0)
		if err == nil && o.Revision == e.Revision {
			return o.Data, nil
		}
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
	}
	o, err := s.cache.store.Get(ctx, e.Key, e.Revision)
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrFuture) || err == nil && o.Revision != e.Revision {
		err = storage.ErrCompacted // the epoch is over
	}
	return o.Data, err
}

// readMany reads a stretch of so many present states and returns the bytes of the first one wanted, or nil.
func (s *source) readMany(ctx context.Context, after storage.Key, wanted []*Entry, rows int) []byte {
	p, err := s.cache.store.List(ctx, storage.Selector{Resource: after.Resource}, storage.ListOptions{After: after, Limit: rows})
	if err != nil {
		return nil
	}
	target := wanted[0]
	var first []byte
	read := make([]*Entry, 0, len(wanted))
	for i := range p.Objects {
		o := &p.Objects[i]
		for len(wanted) > 0 && wanted[0].Key.Compare(o.Key) < 0 {
			wanted = wanted[1:] // it is no longer there, or was read
		}
		if len(wanted) == 0 {
			break
		}
		e := wanted[0]
		if e.Key != o.Key || e.Revision != o.Revision || len(o.Data) != int(e.size) || e.Resident() {
			continue
		}
		e.data.Store(unsafe.SliceData(o.Data))
		if e == target {
			first = o.Data
		}
		read = append(read, e)
	}
	s.cache.budget.loaded(s.cache, read)
	return first
}

// ahead tells, if somebody seems to read one object after the other, behind which key to read on and what is wanted from
// there, the entry first, and how many rows that may be.
func (s *source) ahead(e *Entry) (after storage.Key, wanted []*Entry, rows int) {
	if e.mode.Load()&(superseded|deletion) != 0 {
		return after, nil, 0
	}
	snap := s.cache.Snapshot(e.Resource)
	if snap.Get(e.Namespace, e.Name) != e {
		return after, nil, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, next := 0, stream{last: e.Key, count: 1}
	for i := range s.streams {
		st := &s.streams[i]
		if st.count == 0 {
			continue
		}
		if between, yes := snap.follows(st.last, e); yes {
			after, at, rows = st.last, i, between+1
			next.count = min(4*st.count, maxAhead)
			break
		}
	}
	copy(s.streams[at:], s.streams[at+1:])
	if next.count > 1 {
		size, room := 0, int(min(maxAheadBytes, s.cache.budget.visitorBytes()/aheadPart))
		snap.Scan("", e.Key, func(o *Entry) bool {
			if wanted == nil {
				wanted = append(make([]*Entry, 0, next.count), e)
			}
			size += o.Size()
			if size > room || len(wanted) == next.count {
				return false
			}
			rows++
			if !o.Resident() {
				wanted = append(wanted, o)
				next.last = o.Key
			}
			return true
		})
	}
	s.streams[len(s.streams)-1] = next
	return after, wanted, rows
}

// follows tells whether an entry comes soon behind a key, and how many lie between them.
func (s Snapshot) follows(last storage.Key, e *Entry) (between int, yes bool) {
	if last.Resource != e.Resource || last.Compare(e.Key) >= 0 {
		return 0, false
	}
	dropped := 0
	s.Scan("", last, func(o *Entry) bool {
		if yes = o == e; yes {
			return false
		}
		between++
		if !o.Resident() {
			dropped++
		}
		return dropped < aheadGap && between < aheadSkip
	})
	return between, yes
}
