package cache

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// headTimeout bounds one question for the head, on which many callers may wait.
const headTimeout = 30 * time.Second

// WaitFor waits until the cache has reached a revision. It fails with ctx's error, or storage.ErrClosed.
func (c *Cache) WaitFor(ctx context.Context, rev storage.Revision) error {
	if w := c.world.Load(); w != nil && w.revision() >= rev {
		return nil
	}
	return c.wait(ctx, func(at storage.Position) bool { return at.Revision >= rev }, rev)
}

func (c *Cache) wait(ctx context.Context, reached func(storage.Position) bool, rev storage.Revision) error {
	if _, err := c.loaded(ctx); err != nil {
		return fmt.Errorf("wait for revision %d: %w", rev, err)
	}
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	for asked := false; ; asked = true {
		g := c.moved.gate() // before looking, or a move in between would be missed
		at := c.world.Load().position()
		if reached(at) {
			return nil
		}
		if !asked {
			// Somebody knows of a commit that the wake-up has not told of yet.
			signal(c.wakeLog)
		}
		select {
		case <-g.open:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d at %d: %w", rev, at.Revision, ctx.Err())
		case <-c.life.Done():
			return fmt.Errorf("wait for revision %d: %w", rev, storage.ErrClosed)
		}
	}
}

// Current returns a revision that no read that began before this call can have been newer than, once the cache has
// reached it: reads that follow are linearizable. Concurrent callers share one question to the database, but never one
// that was under way when they came.
func (c *Cache) Current(ctx context.Context) (storage.Revision, error) {
	if c.cfg.Trace == nil {
		return c.current(ctx)
	}
	end := c.cfg.Trace(ctx)
	rev, err := c.current(ctx)
	if end != nil {
		end(err)
	}
	return rev, err
}

func (c *Cache) current(ctx context.Context) (storage.Revision, error) {
	if _, err := c.loaded(ctx); err != nil {
		return 0, fmt.Errorf("ask for the head: %w", err)
	}
	at, err := c.askHead(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask for the head: %w", err)
	}
	c.sawHead(at.Revision)
	reached := func(p storage.Position) bool {
		return p.Epoch > at.Epoch || p.Epoch == at.Epoch && p.Revision >= at.Revision
	}
	now := c.Position()
	if !reached(now) {
		if err := c.wait(ctx, reached, at.Revision); err != nil {
			return 0, err
		}
		now = c.Position()
	}
	if now.Epoch != at.Epoch {
		return now.Revision, nil // the head of a lost past means nothing any more
	}
	return at.Revision, nil
}

// head shares questions for the head.
type head struct {
	mu      sync.Mutex
	running bool
	next    *flight
}

// flight is one question and those who wait for its answer.
type flight struct {
	waiting int // guarded by head.mu
	cancel  context.CancelFunc
	done    chan struct{}
	at      storage.Position
	err     error
}

func (c *Cache) askHead(ctx context.Context) (storage.Position, error) {
	h := &c.head
	h.mu.Lock()
	if h.next == nil {
		h.next = &flight{done: make(chan struct{})}
	}
	f := h.next
	f.waiting++
	if !h.running {
		if !c.begin() {
			h.mu.Unlock()
			return storage.Position{}, storage.ErrClosed
		}
		h.running = true
		go c.answerHead()
	}
	h.mu.Unlock()
	select {
	case <-f.done:
		return f.at, f.err
	case <-ctx.Done():
		h.mu.Lock()
		defer h.mu.Unlock()
		if f.waiting--; f.waiting == 0 && f.cancel != nil {
			f.cancel() // nobody wants to know any more
		}
		return storage.Position{}, ctx.Err()
	}
}

// answerHead asks for as long as somebody wants to know.
func (c *Cache) answerHead() {
	defer c.wg.Done()
	h := &c.head
	for {
		h.mu.Lock()
		f := h.next
		h.next = nil
		if f == nil || f.waiting == 0 {
			h.running = false
			h.mu.Unlock()
			return
		}
		var ctx context.Context
		ctx, f.cancel = context.WithTimeout(c.life, headTimeout)
		h.mu.Unlock()
		f.at, f.err = c.store.Head(ctx)
		if f.err != nil && c.life.Err() != nil {
			f.err = storage.ErrClosed
		}
		f.cancel()
		close(f.done)
	}
}

// begin counts a goroutine that Run waits for; false when Run has returned.
func (c *Cache) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Add(1)
	return true
}
