package fairness

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/util/flowcontrol/debug"
	fq "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing"
	fqs "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/queueset"
	"k8s.io/apiserver/pkg/util/flowcontrol/metrics"
	fcrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
)

// seats are those of one priority level. While there are enough, nothing has to be ordered: who comes is counted, and that
// is all. When there are not, upstream's queue set is told of all who sit, as if they had come through it, and orders those
// who wait. It is never told of fewer than sit while somebody waits, but where its limit was lowered below what was taken.
type seats struct {
	name    string
	changed *atomic.Uint64 // counts changes of the configuration

	executing metrics.RatioedGauge // requests
	occupied  metrics.RatioedGauge
	demand    metrics.Gauge

	sum  sync.Mutex // not held while others are taken
	ours float64    // seats that upstream's queue set does not know of
	its  float64    // that it knows of, those waited for included

	mu         sync.Mutex // before the queue set's own
	queues     fq.QueueSet
	limit      int
	exempt     bool
	queued     bool // who finds no seat waits
	sitting    seat // the ring of those that upstream's queue set does not know of
	dispatched int
}

// factory makes seats around upstream's queue sets.
type factory struct {
	fq.QueueSetFactory
	changed *atomic.Uint64
}

// BeginConstruction implements fq.QueueSetFactory.
func (f factory) BeginConstruction(cfg fq.QueuingConfig, pair metrics.RatioedGaugePair, occupied metrics.RatioedGauge, demand metrics.Gauge) (fq.QueueSetCompleter, error) {
	s := &seats{name: cfg.Name, changed: f.changed, executing: pair.RequestsExecuting, occupied: occupied, demand: demand}
	s.sitting.next, s.sitting.prev = &s.sitting, &s.sitting
	inner, err := f.QueueSetFactory.BeginConstruction(cfg, pair, occupied, total{demand, s})
	return completer{inner, s, cfg}, err
}

// completer is a change of the configuration under way.
type completer struct {
	fq.QueueSetCompleter
	set *seats
	cfg fq.QueuingConfig
}

// Complete implements fq.QueueSetCompleter.
func (c completer) Complete(cfg fq.DispatchingConfig) fq.QueueSet {
	s := c.set
	s.changed.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues = c.QueueSetCompleter.Complete(cfg)
	s.limit, s.exempt, s.queued = cfg.ConcurrencyLimit, c.cfg.DesiredNumQueues < 0, c.cfg.DesiredNumQueues > 0
	return s
}

// BeginConfigChange implements fq.QueueSet.
func (s *seats) BeginConfigChange(cfg fq.QueuingConfig) (fq.QueueSetCompleter, error) {
	inner, err := s.queues.BeginConfigChange(cfg)
	return completer{inner, s, cfg}, err
}

// IsIdle implements fq.QueueSet.
func (s *seats) IsIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle()
}

func (s *seats) idle() bool { return s.sitting.next == &s.sitting && s.queues.IsIdle() }

// total is the demand for seats as upstream's queue set sees it; what it does not know of is added.
type total struct {
	metrics.Gauge
	set *seats
}

// Set implements metrics.Gauge.
func (t total) Set(seats float64) {
	t.set.sum.Lock()
	defer t.set.sum.Unlock()
	t.set.its = seats
	t.Gauge.Set(t.set.its + t.set.ours)
}

// grow adds seats that upstream's queue set does not know of, if they are within the limit.
func (s *seats) grow(seats, limit int) bool {
	s.sum.Lock()
	defer s.sum.Unlock()
	if limit >= 0 && int(s.its+s.ours)+seats > limit {
		return false
	}
	s.ours += float64(seats)
	s.demand.Set(s.its + s.ours)
	return true
}

// fits tells whether upstream's queue set would give this many seats at once.
func (s *seats) fits(seats int) bool {
	s.sum.Lock()
	defer s.sum.Unlock()
	return s.exempt || int(s.its)+seats <= s.limit
}

// seat is a request that got what it needs without waiting.
type seat struct {
	set      *seats
	ctx      context.Context //nolint:containedctx // of the request, which is what a seat is
	work     fcrequest.WorkEstimate
	series   *flowSeries
	hash     uint64
	flow     string
	info     any // who asks for what, to be shown
	user     any
	lingers  bool       // is answered; the seats are kept for what its watchers cause
	upstream fq.Request // not nil: the queue set knows of it

	prev, next *seat
}

// take gives a request its seats; false when they are not free.
func (s *seats) take(r *seat) bool {
	n := r.work.MaxSeats()
	s.mu.Lock()
	limit := s.limit
	if s.exempt {
		limit = -1
	}
	if !s.grow(n, limit) {
		s.mu.Unlock()
		return false
	}
	r.set = s
	r.prev, r.next = s.sitting.prev, &s.sitting
	r.prev.next, s.sitting.prev = r, r
	s.dispatched++
	queued := s.queued
	s.mu.Unlock()
	if queued {
		r.series.length.Observe(1) // with itself
	}
	r.count(1, n)
	return true
}

// count adds to what is told of requests under way and of their seats.
func (r *seat) count(requests, seats int) {
	if requests != 0 {
		r.series.executing.Add(float64(requests))
		r.set.executing.Add(float64(requests))
	}
	if seats != 0 {
		r.series.seats.Add(float64(seats))
		r.set.occupied.Add(float64(seats))
	}
}

// leave gives the seats back once the request is answered.
func (r *seat) leave() {
	s := r.set
	s.mu.Lock()
	if r.upstream != nil {
		s.mu.Unlock()
		r.upstream.Finish(func() {})
		return
	}
	if r.work.AdditionalLatency > 0 {
		r.lingers = true
		s.mu.Unlock()
		r.count(-1, 0)
		time.AfterFunc(r.work.AdditionalLatency, r.rise)
		return
	}
	s.remove(r)
	s.mu.Unlock()
	r.count(-1, -r.work.MaxSeats())
}

// rise is the end of lingering.
func (r *seat) rise() {
	s := r.set
	s.mu.Lock()
	if r.upstream != nil {
		s.mu.Unlock()
		r.upstream.Finish(func() {})
		return
	}
	s.remove(r)
	s.mu.Unlock()
	r.count(0, -r.work.MaxSeats())
}

func (s *seats) remove(r *seat) {
	r.prev.next, r.next.prev = r.next, r.prev
	r.prev, r.next = nil, nil
	s.grow(-r.work.MaxSeats(), -1)
}

// tell tells upstream's queue set of those that it does not know of. It gives them their seats at once.
func (s *seats) tell() {
	for r := s.sitting.next; r != &s.sitting; {
		next := r.next
		if n := r.work.MaxSeats(); s.fits(n) {
			s.remove(r)
			work, requests := r.work, -1
			if r.lingers {
				work, requests = fcrequest.WorkEstimate{InitialSeats: uint64(n)}, 0
			}
			r.count(requests, -n)
			// Its end is told by Finish alone, so it does not end with its context.
			req, _ := s.queues.StartRequest(context.WithoutCancel(r.ctx), &work, r.hash, r.flow, r.series.schema, r.info, r.user, nil)
			if req == nil {
				req = stranger{}
			}
			r.upstream = req
		}
		r = next
	}
}

// StartRequest implements fq.QueueSet.
func (s *seats) StartRequest(ctx context.Context, work *fcrequest.WorkEstimate, hash uint64, flow, schema string, info, who any, note fq.QueueNoteFn) (fq.Request, bool) {
	if l, ok := ctx.Value(lessonKey{}).(*lesson); ok {
		l.set, l.hash = s, hash
	}
	if r := (&seat{ctx: ctx, work: *work, series: seriesOf(s.name, schema), hash: hash, flow: flow, info: info, user: who}); s.take(r) {
		return counted{r}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell()
	req, idle := s.queues.StartRequest(ctx, work, hash, flow, schema, info, who, note)
	if req == nil {
		return nil, idle
	}
	return known{req, s}, false
}

// counted is a request that did not have to wait.
type counted struct{ *seat }

// Finish implements fq.Request.
func (c counted) Finish(execute func()) bool {
	func() {
		defer c.leave()
		execute()
	}()
	return c.set.IsIdle()
}

// stranger is a request that upstream's queue set did not want to know, though it fitted.
type stranger struct{}

// Finish implements fq.Request.
func (stranger) Finish(func()) bool { return false }

// known is a request that upstream's queue set orders.
type known struct {
	fq.Request
	set *seats
}

// Finish implements fq.Request.
func (k known) Finish(execute func()) bool {
	idle := k.Request.Finish(func() {
		fqs.OnRequestDispatched(k.Request)
		execute()
	})
	return idle && k.set.IsIdle()
}

// Dump implements fq.QueueSet.
func (s *seats) Dump(details bool) debug.QueueSetDump {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell()
	dump := s.queues.Dump(details)
	dump.Dispatched += s.dispatched
	return dump
}
