package fairness

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	epmetrics "k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	"k8s.io/apiserver/pkg/util/flowcontrol/metrics"
	fcrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
)

// fair makes requests wait for a seat, as upstream's filter does. Those of a kind that was seen before, for whom there are
// seats, get them without upstream's being asked.
type fair struct {
	*Fairness
	next    http.Handler
	dropped flowcontrol.DroppedRequestsTracker
}

// asked is a request on its way through the filter.
type asked struct {
	f        *fair
	w        http.ResponseWriter
	req      *http.Request
	info     *request.RequestInfo
	user     user.Info
	mutating bool
}

// ServeHTTP implements http.Handler.
func (f *fair) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	ctx := req.Context()
	info, found := request.RequestInfoFrom(ctx)
	who, known := request.UserFrom(ctx)
	if !found || !known {
		http.Error(w, fmt.Sprintf("Internal Server Error: %#v", req.RequestURI), http.StatusInternalServerError)
		return
	}
	watch := info.Verb == "watch"
	if !watch && f.cfg.LongRunning != nil && f.cfg.LongRunning(req, info) {
		f.next.ServeHTTP(w, req)
		return
	}
	a := asked{f: f, w: w, req: req, info: info, user: who, mutating: info.Verb != "get" && info.Verb != "list" && !watch}
	k := kindOf(who, info)
	if c := f.classes.find(k, who.GetGroups()); c != nil {
		if r := a.sit(c); r != nil {
			if watch {
				a.watch(c, r)
			} else {
				a.serve(c, r)
			}
			return
		}
	}
	a.ask(k, watch)
}

// sit takes the seats of a request of a known kind; nil when they are not free.
func (a *asked) sit(c *class) *seat {
	r := &seat{
		ctx: a.req.Context(), work: a.f.work(a.req, c.schema, c.level), series: c.series, hash: c.hash, flow: c.flow, info: a.info, user: a.user,
	}
	if !c.set.take(r) {
		return nil
	}
	c.series.estimated.Observe(float64(r.work.MaxSeats()))
	if !c.exempt {
		c.series.waited.Observe(0)
	}
	c.series.dispatched.Inc()
	header := a.w.Header()
	header[flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID] = c.schemaUID[:1:1]
	header[flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID] = c.levelUID[:1:1]
	return r
}

func (a *asked) serve(c *class, r *seat) {
	a.f.cfg.Marks.executing(a.mutating, 1)
	began := time.Now()
	defer func() {
		a.f.cfg.Marks.executing(a.mutating, -1)
		c.series.took.Observe(time.Since(began).Seconds())
		r.leave()
	}()
	a.f.next.ServeHTTP(a.w, a.req)
}

// watch keeps the seats until the watch has told what there is.
func (a *asked) watch(c *class, r *seat) {
	a.f.cfg.Marks.executing(false, 1)
	began := time.Now()
	signal := &initialized{end: func() {
		a.f.cfg.Marks.executing(false, -1)
		c.series.initialized.Observe(time.Since(began).Seconds())
		r.leave()
	}}
	defer signal.Signal()
	forget := a.f.flow.RegisterWatch(a.req)
	defer func() {
		if forget != nil {
			forget()
		}
	}()
	a.f.next.ServeHTTP(a.w, a.req.WithContext(flowcontrol.WithInitializationSignal(a.req.Context(), signal)))
}

// initialized does something once, at the first signal.
type initialized struct {
	once sync.Once
	end  func()
}

// Signal implements flowcontrol.InitializationSignal.
func (i *initialized) Signal() { i.once.Do(i.end) }

// Wait implements flowcontrol.InitializationSignal. Nobody waits: who signals ends it.
func (i *initialized) Wait() {}

// ask goes upstream's way, and remembers what came of it.
func (a *asked) ask(k kind, watch bool) {
	var l lesson
	ctx := context.WithValue(a.req.Context(), lessonKey{}, &l)
	note := func(schema *flowcontrolv1.FlowSchema, level *flowcontrolv1.PriorityLevelConfiguration, flow string) {
		l.at, l.schema, l.level, l.flow = a.f.classes.changed.Load(), schema, level, flow
	}
	estimate := func() fcrequest.WorkEstimate {
		work := a.f.work(a.req, l.schema.Name, l.level.Name)
		metrics.ObserveWorkEstimatedSeats(l.level.Name, l.schema.Name, work.MaxSeats())
		return work
	}
	queued := func(in bool) {
		if in {
			a.f.cfg.Marks.waiting(a.mutating, 1)
		} else {
			a.f.cfg.Marks.waiting(a.mutating, -1)
		}
	}
	served := false
	handle := func(execute func()) {
		ctx, cancel := a.f.patience(ctx)
		defer cancel()
		a.f.flow.Handle(ctx, flowcontrol.RequestDigest{RequestInfo: a.info, User: a.user}, note, estimate, queued, func() {
			a.f.cfg.Marks.executing(a.mutating, 1)
			defer a.f.cfg.Marks.executing(a.mutating, -1)
			served = true
			a.headers(&l)
			a.f.classes.learn(k, a.user.GetGroups(), &l)
			execute()
		})
	}
	if watch {
		a.askToWatch(handle)
	} else {
		handle(func() { a.f.next.ServeHTTP(a.w, a.req) })
	}
	if !served {
		a.refuse(&l)
	}
}

// askToWatch has upstream's handling on a goroutine of its own: it is over when the watch has begun.
func (a *asked) askToWatch(handle func(execute func())) {
	signal := flowcontrol.NewInitializationSignal()
	may, handled := make(chan struct{}), make(chan any, 1)
	var forget flowcontrol.ForgetWatchFunc
	go func() {
		defer func() {
			err := recover()
			if err != nil && err != http.ErrAbortHandler { //nolint:errorlint // what was panicked with
				err = fmt.Sprintf("%v\n%s", err, debug.Stack())
			}
			handled <- err
		}()
		handle(func() {
			forget = a.f.flow.RegisterWatch(a.req)
			close(may)
			signal.Wait()
		})
	}()
	end := func() {
		if err := <-handled; err != nil {
			panic(err)
		}
	}
	select {
	case <-may:
		defer func() {
			if forget != nil {
				forget()
			}
		}()
		defer end()
		defer signal.Signal() // where it did not come to the beginning
		a.f.next.ServeHTTP(a.w, a.req.WithContext(flowcontrol.WithInitializationSignal(a.req.Context(), signal)))
	case err := <-handled:
		if err != nil {
			panic(err)
		}
	}
}

func (a *asked) headers(l *lesson) {
	if l.schema != nil {
		a.w.Header().Set(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID, string(l.level.UID))
		a.w.Header().Set(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID, string(l.schema.UID))
	}
}

func (a *asked) refuse(l *lesson) {
	a.headers(l)
	epmetrics.RecordDroppedRequest(a.req, a.info, epmetrics.APIServerComponent, a.mutating)
	epmetrics.RecordRequestTermination(a.req, a.info, epmetrics.APIServerComponent, http.StatusTooManyRequests)
	a.f.dropped.RecordDroppedRequest(l.level.Name)
	a.w.Header().Set("Retry-After", strconv.FormatInt(a.f.dropped.GetRetryAfter(l.level.Name), 10))
	http.Error(a.w, "Too many requests, please try again later.", http.StatusTooManyRequests)
}

// maxPatience is the longest that a request waits for a seat.
const maxPatience = time.Minute

// patience bounds how long a request waits: a quarter of the time that it has.
func (f *fair) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return ctx, func() {}
	}
	began, ok := request.ReceivedTimestampFrom(ctx)
	if !ok {
		began = time.Now()
	}
	wait := f.cfg.Timeout / 4
	if deadline, ok := ctx.Deadline(); ok {
		wait = deadline.Sub(began) / 4
	}
	return context.WithDeadline(ctx, began.Add(min(wait, maxPatience)))
}
