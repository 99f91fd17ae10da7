package read

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server/routine"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/rowlock-io/rowlock/storage"
)

// Watch answers a WATCH, until the client goes, the time is up or the server shuts down. When it returns false nothing
// was written and upstream's handler has to answer. When the request carries a routine.Task, the watch is only prepared
// and the task runs it, on a stack that has not grown.
func (h *Handler) Watch(w http.ResponseWriter, req *http.Request, info *request.RequestInfo, res *Resource) bool {
	if req.Method != http.MethodGet || info.Subresource != "" || wsstream.IsWebSocketRequest(req) {
		return false
	}
	m, ok := res.negotiate(req, true)
	if !ok {
		return false
	}
	opts, ok := h.listOptions(req, info, res)
	if !ok || !opts.Watch {
		return false
	}
	opts.Continue = "" // means nothing to a watch
	s, ok := res.scopeOf(info, &opts)
	if !ok {
		return false
	}
	rev, ok := parseRevision(opts.ResourceVersion)
	if !ok {
		return false
	}
	if _, ok := w.(http.Flusher); !ok {
		return false
	}
	timeout := h.watchTimeout(&opts)
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	stop := func() bool { return false }
	if h.cfg.Serving != nil {
		stop = context.AfterFunc(h.cfg.Serving, cancel)
	}
	se := &session{
		h: h, res: res, media: m, scope: s,
		pred:      newPredicate(res, &opts),
		start:     startOf(&opts, rev),
		bookmarks: opts.AllowWatchBookmarks,
		w:         w,
		control:   http.NewResponseController(w),
		deadline:  time.Now().Add(timeout),
		announced: Announced(req.Context()),
	}
	serve := func() {
		defer cancel()
		defer stop()
		se.run(ctx)
	}
	if task := routine.TaskFrom(req.Context()); task != nil {
		task.Func = serve
	} else {
		serve()
	}
	return true
}

func (h *Handler) watchTimeout(opts *metainternal.ListOptions) time.Duration {
	if opts.TimeoutSeconds != nil && *opts.TimeoutSeconds != 0 {
		return time.Duration(*opts.TimeoutSeconds) * time.Second
	}
	// Spread, so that watches that began together do not come back together.
	return time.Duration(float64(h.cfg.MinRequestTimeout) * (1 + rand.Float64()))
}

// start is where a watch begins: "" at the present, "0" at whatever the cache has reached, a number behind that revision.
type start struct {
	asked    string
	revision storage.Revision // asked, parsed
	initial  bool             // tell the state first, as ADDED events
}

// startOf applies upstream's rules about resourceVersion and sendInitialEvents.
func startOf(opts *metainternal.ListOptions, rev storage.Revision) start {
	s := start{asked: opts.ResourceVersion, revision: rev}
	if opts.SendInitialEvents != nil {
		s.initial = *opts.SendInitialEvents
	} else {
		// Only with the WatchList feature turned off: no revision has always meant "what there is, then changes".
		s.initial = rev == 0
	}
	return s
}
