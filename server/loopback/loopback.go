// Package loopback lets parts of the server use its API with stock clients, without sockets, TLS or authentication: a
// request goes to a handler on a goroutine of its own and the answer streams back.
package loopback

import (
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/rowlock-io/rowlock/server/internal/stack"
)

// Transport is an http.RoundTripper that calls Handler.
type Transport struct {
	Handler http.Handler
}

// RoundTrip implements http.RoundTripper. It returns when the handler has written its header; the body streams. The
// handler's context is the request's: closing the body or cancelling the request ends it.
func (t Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil {
		req = req.Clone(req.Context())
		req.Body = http.NoBody
	}
	server := req.Clone(req.Context())
	server.RequestURI = req.URL.RequestURI()
	server.RemoteAddr = "127.0.0.1:0"
	server.Proto, server.ProtoMajor, server.ProtoMinor = "HTTP/2.0", 2, 0
	if server.Host == "" {
		server.Host = req.URL.Host
	}
	pr, pw := io.Pipe()
	w := &writer{header: http.Header{}, body: pw, started: make(chan struct{})}
	go func() {
		defer func() {
			if r := recover(); r != nil {
				if err, ok := r.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
					w.WriteHeader(http.StatusInternalServerError)
				}
				_ = pw.CloseWithError(io.ErrUnexpectedEOF)
				w.start(http.StatusInternalServerError)
				return
			}
			w.WriteHeader(http.StatusOK)
			_ = pw.Close()
			_ = req.Body.Close()
		}()
		stack.Grow()
		t.Handler.ServeHTTP(w, server)
	}()
	select {
	case <-w.started:
	case <-req.Context().Done():
		_ = pr.CloseWithError(req.Context().Err()) // a handler that still writes gets the error
		return nil, req.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(w.code), StatusCode: w.code, Header: w.sent, Body: pr, Request: req,
		Proto: "HTTP/2.0", ProtoMajor: 2, ContentLength: -1,
	}, nil
}

// writer is the handler's side of one exchange.
type writer struct {
	header  http.Header
	body    *io.PipeWriter
	once    sync.Once
	started chan struct{} // closed when code and sent are set
	code    int
	sent    http.Header
}

func (w *writer) Header() http.Header { return w.header }

func (w *writer) WriteHeader(code int) { w.start(code) }

func (w *writer) start(code int) {
	w.once.Do(func() {
		w.code, w.sent = code, w.header.Clone()
		close(w.started)
	})
}

func (w *writer) Write(p []byte) (int, error) {
	w.start(http.StatusOK)
	return w.body.Write(p)
}

// Flush implements http.Flusher: the pipe holds nothing back.
func (w *writer) Flush() { w.start(http.StatusOK) }

// FlushError implements what http.ResponseController looks for.
func (w *writer) FlushError() error {
	w.Flush()
	return nil
}

// CloseNotify implements http.CloseNotifier: upstream's wrappers pass on flushing only for writers that have it. Nothing
// is ever sent: handlers watch the request's context.
func (w *writer) CloseNotify() <-chan bool { return nil }

var (
	_ http.Flusher       = &writer{}
	_ http.CloseNotifier = &writer{} //nolint:staticcheck // see CloseNotify
)
