package outbound

import (
	"errors"
	"io"
	"net/http"
)

// NoRedirects wraps a transport so that no client on top of it follows a redirect: the answer is there with its code, but
// does not say where else to go.
func NoRedirects(next http.RoundTripper) http.RoundTripper { return noRedirects{next} }

type noRedirects struct{ next http.RoundTripper }

func (t noRedirects) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if resp != nil && resp.StatusCode >= http.StatusMultipleChoices && resp.StatusCode < http.StatusBadRequest {
		resp.Header.Del("Location")
	}
	return resp, err
}

// WrappedRoundTripper lets upstream find the transport below.
func (t noRedirects) WrappedRoundTripper() http.RoundTripper { return t.next }

// ErrTooLarge ends the body of an answer that is longer than its bound.
var ErrTooLarge = errors.New("the answer is too large")

// Bounded wraps a transport so that reading more than so many bytes of an answer's body fails with ErrTooLarge.
func Bounded(next http.RoundTripper, bytes int64) http.RoundTripper { return bounded{next, bytes} }

type bounded struct {
	next  http.RoundTripper
	bytes int64
}

func (t bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err == nil && resp.Body != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: t.bytes}
	}
	return resp, err
}

// WrappedRoundTripper lets upstream find the transport below.
func (t bounded) WrappedRoundTripper() http.RoundTripper { return t.next }

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more than allowed tells an end from an excess
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
