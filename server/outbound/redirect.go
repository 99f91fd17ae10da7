package outbound

import "net/http"

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
