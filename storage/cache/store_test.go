package cache_test

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/rowlock-io/rowlock/storage"
)

// stage is a store whose behaviour a test can change: wake-ups of the test's own, calls that fail or are held up, and
// an epoch that moves.
type stage struct {
	storage.Store
	wake    chan struct{} // instead of the store's, when set
	epoch   atomic.Uint64 // added to the store's
	changes atomic.Int64  // calls so far
	rows    atomic.Int64  // changes returned so far
	heads   atomic.Int64
	lists   atomic.Int64

	mu       sync.Mutex
	onChange func(ctx context.Context, after storage.Revision) error // before a Changes; an error is its answer
	onHead   func(ctx context.Context) error                         // after the head was read
	onRead   func(ctx context.Context) error                         // after a Changes was read
	cut      int                                                     // bytes after which a batch ends early, when set
	// before a List
	onList func(ctx context.Context, opts storage.ListOptions) error
}

func newStage(s storage.Store) *stage { return &stage{Store: s} }

// deaf is a stage that gets no wake-up but the test's own.
func deaf(s storage.Store) *stage { return &stage{Store: s, wake: make(chan struct{}, 1)} }

func (s *stage) Wake() <-chan struct{} {
	if s.wake != nil {
		return s.wake
	}
	return s.Store.Wake()
}

func (s *stage) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stage) set(f func(s *stage)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *stage) Changes(ctx context.Context, after storage.Revision, limit int) (storage.Batch, error) {
	s.changes.Add(1)
	s.mu.Lock()
	f := s.onChange
	s.mu.Unlock()
	if f != nil {
		if err := f(ctx, after); err != nil {
			return storage.Batch{}, err
		}
	}
	b, err := s.Store.Changes(ctx, after, limit)
	b.Epoch += s.epoch.Load()
	s.mu.Lock()
	read, cut := s.onRead, s.cut
	s.mu.Unlock()
	size := 0
	for i := range b.Changes {
		if size += len(b.Changes[i].Data) + len(b.Changes[i].Prev); cut > 0 && size >= cut && i+1 < len(b.Changes) {
			b.Changes, b.Revision = b.Changes[:i+1], b.Changes[i].Revision
			break
		}
	}
	s.rows.Add(int64(len(b.Changes)))
	if read != nil && err == nil {
		err = read(ctx)
	}
	return b, err
}

func (s *stage) Head(ctx context.Context) (storage.Position, error) {
	s.heads.Add(1)
	p, err := s.Store.Head(ctx)
	p.Epoch += s.epoch.Load()
	s.mu.Lock()
	f := s.onHead
	s.mu.Unlock()
	if f != nil && err == nil {
		err = f(ctx)
	}
	return p, err
}

func (s *stage) List(ctx context.Context, sel storage.Selector, opts storage.ListOptions) (storage.Page, error) {
	s.lists.Add(1)
	s.mu.Lock()
	f := s.onList
	s.mu.Unlock()
	if f != nil {
		if err := f(ctx, opts); err != nil {
			return storage.Page{}, err
		}
	}
	p, err := s.Store.List(ctx, sel, opts)
	p.Epoch += s.epoch.Load()
	return p, err
}

func (s *stage) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	d, err := s.Store.Commit(ctx, ops)
	d.Before.Epoch += s.epoch.Load()
	return d, err
}
