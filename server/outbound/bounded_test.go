package outbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestWebhookAnswersDoNotFillMemory has large answers under way at a time: those beyond the budget of the cluster fail, small
// ones do not, and it is given back with the calls.
func TestWebhookAnswersDoNotFillMemory(t *testing.T) {
	t.Parallel()
	shared := &budget{max: 1000, free: 100}
	transport := bounded{next: roundTrip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(make([]byte, req.ContentLength)))}, nil
	}), bytes: 800, budget: shared}
	ask := func(ctx context.Context, length int64) error {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://hook.example", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{resp.Body}, make([]byte, 50))
		if err == nil && n != length {
			t.Errorf("%d bytes of %d", n, length)
		}
		return err
	}
	first, done := context.WithCancel(t.Context())
	if err := ask(first, 700); err != nil {
		t.Fatal(err)
	}
	second, cancel := context.WithCancel(t.Context())
	if err := ask(second, 700); !errors.Is(err, ErrTooMany) {
		t.Errorf("a second large answer: %v", err)
	}
	cancel()
	for range 20 {
		if err := ask(t.Context(), 100); err != nil {
			t.Errorf("a small answer: %v", err)
		}
	}
	if err := ask(t.Context(), 801); !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrTooMany) {
		t.Errorf("too large: %v", err)
	}
	done()
	for shared.taken.Load() > 600 { // the contexts' functions run on their own
		if t.Context().Err() != nil {
			t.Fatal("the budget is not given back")
		}
	}
	if err := ask(context.Background(), 400); err != nil { //nolint:usetesting // a context that never ends
		t.Errorf("after the first call: %v", err)
	}
}
