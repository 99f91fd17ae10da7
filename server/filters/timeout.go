package filters

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	genericfilters "k8s.io/apiserver/pkg/server/filters"

	"github.com/rowlock-io/rowlock/server/internal/stack"
)

// bodyGrace is how long the rest of a body may take that nobody has read by the end of its request.
const bodyGrace = 5 * time.Second

// withTimeout ends requests whose deadline has passed, but those that last as long as their client wants, with upstream's
// 504, and cuts off bodies and answers that are under way then: a client that writes or reads slowly holds nothing for
// longer. Upstream alone does not: net/http cannot answer on HTTP/1.1 while a handler waits for the body.
//
// What changes objects runs on a goroutine of its own, upstream's way: answered when the time is up, whatever it waits for.
// Reads wait for nothing but their context. They stay on the goroutine they are on, and what they say of a deadline that
// has passed is said in upstream's words.
func withTimeout(handler http.Handler) http.Handler {
	apart := genericfilters.WithTimeoutForNonLongRunningRequests(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		stack.Grow()
		handler.ServeHTTP(w, req)
	}), LongRunning)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := req.Context()
		info, ok := request.RequestInfoFrom(ctx)
		if !ok || LongRunning(req, info) {
			handler.ServeHTTP(w, req)
			return
		}
		tw := &timedWriter{w: w, ctx: ctx, body: req.ContentLength != 0}
		tw.before.keep(w.Header())
		tw.apart = req.Method != http.MethodGet && req.Method != http.MethodHead
		var timer *time.Timer
		if deadline, ok := ctx.Deadline(); ok {
			timer = time.AfterFunc(time.Until(deadline), tw.cut)
		}
		defer func() {
			if timer != nil && !timer.Stop() {
				tw.end()
			} else if tw.body && req.ProtoMajor == 1 {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyGrace)) // until the next request
			}
		}()
		if tw.apart {
			defer tw.answered()
			apart.ServeHTTP(responsewriter.WrapForHTTP1Or2(tw), req)
			return
		}
		handler.ServeHTTP(responsewriter.WrapForHTTP1Or2(tw), req)
		if tw.late {
			metrics.RecordRequestTermination(req, info, metrics.APIServerComponent, http.StatusGatewayTimeout)
			tw.answerLate()
		}
	})
}

// timedWriter is an answer that has a deadline. One that would begin later is not sent.
type timedWriter struct {
	w      http.ResponseWriter
	ctx    context.Context
	body   bool    // the request has one
	apart  bool    // the handler is on a goroutine of its own
	before headers // what an answer keeps that begins too late

	mu    sync.Mutex
	begun bool
	late  bool // and so nothing was sent
	ended bool
}

var _ responsewriter.UserProvidedDecorator = &timedWriter{}

// Unwrap implements responsewriter.UserProvidedDecorator.
func (t *timedWriter) Unwrap() http.ResponseWriter { return t.w }

// Header implements http.ResponseWriter.
func (t *timedWriter) Header() http.Header { return t.w.Header() }

// begin tells whether the answer begins now, and whether it may be sent.
func (t *timedWriter) begin() (first, send bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first = !t.begun
	if first {
		t.begun, t.late = true, errors.Is(t.ctx.Err(), context.DeadlineExceeded)
	}
	return first, !t.late
}

// WriteHeader implements http.ResponseWriter.
func (t *timedWriter) WriteHeader(code int) {
	if _, send := t.begin(); send {
		t.w.WriteHeader(code)
	}
}

// Write implements http.ResponseWriter.
func (t *timedWriter) Write(p []byte) (int, error) {
	first, send := t.begin()
	if !send {
		return 0, http.ErrHandlerTimeout
	}
	if first {
		t.w.WriteHeader(http.StatusOK)
	}
	return t.w.Write(p)
}

// answered answers what upstream would have answered, had a handler not been late by so little that it meant to answer
// itself: upstream gives up the connection then. Nothing was sent on it.
func (t *timedWriter) answered() {
	p := recover()
	if !t.late {
		if p != nil {
			panic(p)
		}
		return
	}
	if err, ok := p.(error); p != nil && (!ok || !errors.Is(err, http.ErrAbortHandler)) {
		panic(p)
	}
	t.answerLate()
}

func (t *timedWriter) answerLate() {
	header := t.w.Header()
	clear(header)
	t.before.restore(header)
	t.w.WriteHeader(http.StatusGatewayTimeout)
	status := apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0).Status()
	_ = json.NewEncoder(t.w).Encode(&status) // the client may be gone
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// cut ends reads from a client that does not write, and writes to one that does not read, once the time is up. net/http
// lifts such deadlines, if there is a next request. What cannot be cut, as within the process, ends with its client.
func (t *timedWriter) cut() {
	<-t.ctx.Done()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || !errors.Is(t.ctx.Err(), context.DeadlineExceeded) {
		return
	}
	control := http.NewResponseController(t.w)
	if t.body && !t.apart {
		_ = control.SetReadDeadline(past)
	}
	if t.begun && !t.late {
		_ = control.SetWriteDeadline(past)
	}
}

// end is called when the request is answered. Of what is apart it ends reads now, since net/http does not send the answer
// while the body is being read.
func (t *timedWriter) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.body && t.apart && errors.Is(t.ctx.Err(), context.DeadlineExceeded) {
		_ = http.NewResponseController(t.w).SetReadDeadline(past)
	}
}

// headers are those that an answer has before its handler begins: few.
type headers struct {
	few  [6]header
	n    int
	rest http.Header // beyond those
}

type header struct {
	key    string
	values []string
}

func (h *headers) keep(from http.Header) {
	if len(from) > len(h.few) {
		h.rest = maps.Clone(from)
		return
	}
	for key, values := range from {
		h.few[h.n] = header{key, values}
		h.n++
	}
}

func (h *headers) restore(to http.Header) {
	maps.Copy(to, h.rest)
	for _, kept := range h.few[:h.n] {
		to[kept.key] = kept.values
	}
}
