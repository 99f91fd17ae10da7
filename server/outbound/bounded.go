package outbound

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// Errors that end the body of an answer.
var (
	ErrTooLarge = errors.New("the answer is too large")
	ErrTooMany  = errors.New("too many large answers at a time")
)

// Bounded wraps a transport so that reading more than so many bytes of an answer's body fails with ErrTooLarge.
func Bounded(next http.RoundTripper, bytes int64) http.RoundTripper {
	return bounded{next: next, bytes: bytes}
}

// budget bounds the bytes that large answers have at a time. It is used up, not waited for: what waits for others while it
// has a part itself may wait for ever.
type budget struct {
	max, free int64 // free bytes are nobody's: the first of each answer
	taken     atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.taken.Add(n) <= b.max {
		return true
	}
	b.taken.Add(-n)
	return false
}

type bounded struct {
	next   http.RoundTripper
	bytes  int64
	budget *budget // nil: none
}

func (t bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err == nil && resp.Body != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = &boundedBody{ReadCloser: resp.Body, ctx: req.Context(), left: t.bytes, budget: t.budget}
	}
	return resp, err
}

// WrappedRoundTripper lets upstream find the transport below.
func (t bounded) WrappedRoundTripper() http.RoundTripper { return t.next }

type boundedBody struct {
	io.ReadCloser
	ctx    context.Context
	read   int64
	left   int64
	budget *budget

	mu    sync.Mutex
	taken int64
	given bool // back, for good
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more than allowed tells an end from an excess
	}
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	if b.budget != nil && b.read > b.budget.free && !b.take(int64(n)) {
		return 0, ErrTooMany
	}
	return n, err
}

// Close implements io.Closer. What was read is still there: it goes with the call that it is the answer of.
func (b *boundedBody) Close() error {
	if b.ctx.Done() == nil {
		b.giveBack()
	}
	return b.ReadCloser.Close()
}

func (b *boundedBody) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.given || !b.budget.take(n) {
		return false
	}
	if b.taken == 0 {
		context.AfterFunc(b.ctx, b.giveBack)
	}
	b.taken += n
	return true
}

func (b *boundedBody) giveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken > 0 {
		b.budget.taken.Add(-b.taken)
	}
	b.taken, b.given = 0, true
}
