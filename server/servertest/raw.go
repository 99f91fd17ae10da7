package servertest

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Request is a request as it goes over the wire: nothing is added to it but a host and a token.
type Request struct {
	Method, Path string // Path with its query, as written
	Header       http.Header
	Body         string
	Token        string // empty: anonymous
}

// Response is an answer.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// Wire sends requests over HTTP/1.1.
type Wire struct{ transport *http.Transport }

// NewWire returns a sender. The certificates of servers are not looked at: what is sent are tests' own tokens.
func NewWire() *Wire {
	return &Wire{&http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true, MaxIdleConnsPerHost: 8,
	}}
}

// Close closes idle connections.
func (w *Wire) Close() { w.transport.CloseIdleConnections() }

// Do sends a request to the root of a server and reads all of the answer.
func (w *Wire) Do(ctx context.Context, root string, r Request) (*Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, root, strings.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	path, query, _ := strings.Cut(r.Path, "?")
	base := req.URL.Path
	req.URL.Opaque = "//" + req.URL.Host + base + path // goes out as it is, slashes, dots, escapes and all
	req.URL.RawQuery = query
	if r.Body == "" {
		req.Body = http.NoBody
	}
	for key, values := range r.Header {
		req.Header[key] = values
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", "test")
	}
	if r.Token != "" && req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	resp, err := w.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &Response{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, err
}

// Send is Do that fails the test when there is no answer.
func (w *Wire) Send(t testing.TB, root string, r Request) *Response {
	t.Helper()
	resp, err := w.Do(t.Context(), root, r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.Path, err)
	}
	return resp
}
