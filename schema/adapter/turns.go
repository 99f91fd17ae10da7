package adapter

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"

	"github.com/rowlock-io/rowlock/storage"
)

const (
	// patience is how long who has the turn may take to come back, before the next one gets it.
	patience = 20 * time.Millisecond
	// longestWait bounds how long a writer that lost waits for its turn.
	longestWait = 500 * time.Millisecond
	// longestLead bounds how much later than the next one's turn the answer of who succeeded is.
	longestLead = 5 * time.Millisecond
	// What may wait at a time, for one key and in all; who comes then does not wait.
	maxWaiting    = 64
	maxWaitingAll = 256
)

// turns brings order among writers of one key who lose to one another. Each of them is about to read the object again and
// write again. If all did so at once, all but one would have done it in vain, and chance alone would say who. So of those
// who lost, one goes on at once and the others wait: whenever the key was written, the one who has waited longest goes
// on. It delays answers that are decided; it decides nothing.
//
// Who succeeded may want to write again. His answer comes a little later than the turn of the next one, by half of what a
// turn takes at the moment. Otherwise he would be as likely as the other to win again, and some would wait for very long.
//
// Nobody relies on it. Who has the turn and does not use it loses it soon; who has waited long enough goes on anyway;
// other replicas know nothing of it.
type turns struct {
	contests atomic.Int32 // len(keys)

	mu      sync.Mutex
	keys    map[storage.Key]*contest
	waiting int
}

// contest is a key that was lost lately.
type contest struct {
	waiting []chan struct{} // closed when it is their turn; who has waited longest comes first
	timer   *time.Timer     // passes the turn on
	since   time.Time       // of the turn
	pace    time.Duration   // what a turn takes
}

// lost returns when who lost a key may try again, or tell its client so.
func (t *turns) lost(ctx context.Context, key storage.Key) {
	turn := t.enter(key)
	if turn == nil {
		return
	}
	timer := time.NewTimer(longestWait)
	defer timer.Stop()
	select {
	case <-turn:
		return
	case <-timer.C:
	case <-ctx.Done():
	}
	t.leave(key, turn)
}

// enter returns what opens at the caller's turn, nil when that is now.
func (t *turns) enter(key storage.Key) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.keys[key]
	if c == nil {
		c = &contest{since: time.Now()}
		c.timer = time.AfterFunc(patience, func() { t.pass(key, c) })
		if t.keys == nil {
			t.keys = map[storage.Key]*contest{}
		}
		t.keys[key] = c
		t.contests.Add(1)
		return nil
	}
	if len(c.waiting) >= maxWaiting || t.waiting >= maxWaitingAll {
		return nil
	}
	turn := make(chan struct{})
	c.waiting = append(c.waiting, turn)
	t.waiting++
	return turn
}

func (t *turns) leave(key storage.Key, turn chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.keys[key]
	if c == nil {
		return
	}
	if i := slices.Index(c.waiting, turn); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		t.waiting--
	}
}

// written gives the turn to the next of those who lost a key, and returns when its writer may be told so.
func (t *turns) written(key storage.Key) {
	if lead := t.pass(key, nil); lead > 0 {
		time.Sleep(lead)
	}
}

// pass gives the turn to the next; with a contest, only if it is still that one. It returns what start the next one should have.
func (t *turns) pass(key storage.Key, of *contest) time.Duration {
	if t.contests.Load() == 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.keys[key]
	switch {
	case c == nil || of != nil && of != c:
		return 0
	case len(c.waiting) == 0:
		t.end(key, c)
		return 0
	}
	t.release(c, 1)
	c.timer.Reset(patience)
	now := time.Now()
	c.pace += (min(now.Sub(c.since), patience) - c.pace) / 8
	c.since = now
	return min(c.pace/2, longestLead)
}

// deleted lets all go on: what they find now is that the object is not there.
func (t *turns) deleted(key storage.Key) {
	if t.contests.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.keys[key]; c != nil {
		t.release(c, len(c.waiting))
		t.end(key, c)
	}
}

func (t *turns) release(c *contest, n int) {
	for _, turn := range c.waiting[:n] {
		close(turn)
	}
	c.waiting = slices.Delete(c.waiting, 0, n)
	t.waiting -= n
}

func (t *turns) end(key storage.Key, c *contest) {
	c.timer.Stop()
	delete(t.keys, key)
	t.contests.Add(-1)
}

// isStale tells whether a refusal says that the object has changed since the writer read it.
func isStale(refusal error) bool {
	return apierrors.IsConflict(refusal) && strings.Contains(refusal.Error(), genericregistry.OptimisticLockErrorMsg)
}
