package postgres

import (
	"sync"
	"time"
)

const (
	// settle is how long answers to a question may take to arrive.
	settle = time.Second
	// believe is how long an answer, or the lack of one, holds.
	believe = time.Minute
)

// audience knows whether another process listens. One that is alone spares the database its notifications, which are a
// third of the statements of a lone writer.
//
// Who begins to listen asks who else does, and each process that hears of it answers; so of two processes at least one
// hears the other's question, because each listens before it asks. Only who heard its own question come back on the
// connection it listens on, and nobody's answer, is alone. That holds for a minute, in case the connection
// has died without a sign. An answer makes the asker read on, so that what was committed before it was heard of is not missed.
type audience struct {
	mu    sync.Mutex
	asked time.Time // when the newest question was sent
	echo  time.Time // when it came back; zero when nothing listens
	other time.Time // when another process was last heard of; zero when not since the echo
}

// alone tells whether nobody would hear.
func (a *audience) alone(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.believesAlone(now)
}

func (a *audience) believesAlone(now time.Time) bool {
	if a.echo.IsZero() || !a.other.IsZero() {
		return false
	}
	since := now.Sub(a.echo)
	return since >= settle && since < believe
}

// ask tells whether it is time to ask, and takes note that it is done.
func (a *audience) ask(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.asked.IsZero() && now.Sub(a.asked) < believe || !a.other.IsZero() && now.Sub(a.other) < believe {
		return false
	}
	a.asked = now
	return true
}

// echoed takes note that the question came back. Answers come behind it.
func (a *audience) echoed(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.echo, a.other = now, time.Time{}
}

// heard takes note of another process, and tells whether it may have missed something.
func (a *audience) heard(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	missed := a.believesAlone(now)
	a.other = now
	return missed
}

// reset forgets all: the connection that listened is gone, or is new, or the question was not sent.
func (a *audience) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked, a.echo, a.other = time.Time{}, time.Time{}, time.Time{}
}
