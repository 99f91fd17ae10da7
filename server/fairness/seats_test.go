package fairness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	fq "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing"
	"k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/eventclock"
	fqs "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/queueset"
	"k8s.io/apiserver/pkg/util/flowcontrol/metrics"
	fcrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
)

// counter is a gauge that only remembers.
type counter struct {
	mu sync.Mutex
	n  float64
}

func (c *counter) Set(n float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n = n
}

func (c *counter) Add(n float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
}

func (c *counter) Inc()                   { c.Add(1) }
func (c *counter) Dec()                   { c.Add(-1) }
func (c *counter) SetToCurrentTime()      {}
func (c *counter) SetDenominator(float64) {}

func (c *counter) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.n)
}

// level is a queue set, ours or upstream's, and what it tells.
type level struct {
	fq.QueueSet
	waiting, executing, occupied, demand counter
	queuing                              fq.QueuingConfig

	mu       sync.Mutex
	sitting  []chan struct{} // of requests that are served, in the order they began; closing one ends it
	rejected int
	over     sync.WaitGroup
}

func newLevel(t *testing.T, of fq.QueueSetFactory, queuing fq.QueuingConfig, limit int) *level {
	t.Helper()
	l := &level{queuing: queuing}
	c, err := of.BeginConstruction(queuing, metrics.RatioedGaugePair{RequestsWaiting: &l.waiting, RequestsExecuting: &l.executing}, &l.occupied, &l.demand)
	if err != nil {
		t.Fatal(err)
	}
	l.QueueSet = c.Complete(fq.DispatchingConfig{ConcurrencyLimit: limit, ConcurrencyDenominator: max(limit, 1)})
	return l
}

func (l *level) limit(t *testing.T, limit int) {
	t.Helper()
	c, err := l.BeginConfigChange(l.queuing)
	if err != nil {
		t.Fatal(err)
	}
	c.Complete(fq.DispatchingConfig{ConcurrencyLimit: limit, ConcurrencyDenominator: max(limit, 1)})
}

// start sends a request in. It returns when it sits, waits or is refused.
func (l *level) start(seats uint64, hash uint64) {
	decided := make(chan struct{})
	once := sync.OnceFunc(func() { close(decided) })
	l.over.Go(func() {
		req, _ := l.StartRequest(context.Background(), &fcrequest.WorkEstimate{InitialSeats: seats}, hash, "flow", "schema", nil, nil, nil)
		if req == nil {
			l.mu.Lock()
			l.rejected++
			l.mu.Unlock()
			once()
			return
		}
		if l.waiting.get() > 0 {
			once()
		}
		req.Finish(func() {
			end := make(chan struct{})
			l.mu.Lock()
			l.sitting = append(l.sitting, end)
			l.mu.Unlock()
			once()
			<-end
		})
	})
	<-decided
}

// end ends one of the requests that are served.
func (l *level) end(n int) {
	l.mu.Lock()
	end := l.sitting[n]
	l.sitting = append(l.sitting[:n:n], l.sitting[n+1:]...)
	l.mu.Unlock()
	close(end)
}

// counts are how many requests are executing, and are served, how many seats they have, how many requests wait, how many
// seats are asked for, and how many requests were refused.
func (l *level) counts() [6]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return [6]int{l.executing.get(), len(l.sitting), l.occupied.get(), l.waiting.get(), l.demand.get(), l.rejected}
}

// TestSeatsCountAsUpstream sends the same requests, of one seat each, to a queue set of ours and to upstream's: as many are
// served, wait and are refused at each step.
func TestSeatsCountAsUpstream(t *testing.T) {
	t.Parallel()
	for name, queuing := range map[string]fq.QueuingConfig{
		// Who of several queues is served next depends on the past, and with it who finds a queue full.
		"queue":   {Name: "queue", DesiredNumQueues: 1, QueueLengthLimit: 3, HandSize: 1},
		"queues":  {Name: "queues", DesiredNumQueues: 8, QueueLengthLimit: 10000, HandSize: 2},
		"rejects": {Name: "rejects"},
		"exempt":  {Name: "exempt", DesiredNumQueues: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstreams() // as the metrics of a server are
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // for a test
			upstream := fqs.NewQueueSetFactory(eventclock.Real{})
			limit := 4
			both := []*level{newLevel(t, factory{upstream, &atomic.Uint64{}}, queuing, limit), newLevel(t, upstream, queuing, limit)}
			await := func(come func() (string, bool)) {
				t.Helper()
				for began := time.Now(); ; runtime.Gosched() {
					if what, ok := come(); ok {
						return
					} else if time.Since(began) > time.Minute {
						t.Fatal(what)
					}
				}
			}
			same := func(step int) {
				t.Helper()
				ours, theirs := both[0], both[1]
				await(func() (string, bool) { // who ends gives back the seat a moment later, and then it is taken
					got, want := ours.counts(), theirs.counts()
					return fmt.Sprintf("step %d, limit %d: executing, served, occupied, waiting, demand and rejected are %v, upstream's %v", step, limit, got, want),
						got == want && got[0] == got[1]
				})
				if ours.IsIdle() != theirs.IsIdle() {
					t.Fatalf("step %d: idle %v, upstream %v", step, ours.IsIdle(), theirs.IsIdle())
				}
			}
			for step := range 600 {
				switch n := random.IntN(20); {
				case n < 10:
					hash := random.Uint64N(3)
					for _, l := range both {
						l.start(1, hash)
					}
				case n < 19:
					if served := both[0].counts()[1]; served > 0 {
						at := random.IntN(served)
						for _, l := range both {
							before := l.demand.get()
							l.end(at)
							await(func() (string, bool) { return "a seat is given back", l.demand.get() < before })
						}
					}
				default:
					if both[0].waiting.get() == 0 && both[0].counts()[1] < 4 {
						limit = 4 + random.IntN(4)
						for _, l := range both {
							l.limit(t, limit)
						}
					}
				}
				same(step)
				if random.IntN(50) == 0 {
					got, want := both[0].Dump(false), both[1].Dump(false)
					if got.Executing != want.Executing || got.Waiting != want.Waiting || got.SeatsInUse != want.SeatsInUse {
						t.Fatalf("step %d: dump has %+v, upstream's %+v", step, got, want)
					}
					same(step)
				}
			}
			for _, l := range both {
				for l.executing.get() > 0 {
					if l.counts()[1] > 0 {
						l.end(0)
					}
					runtime.Gosched()
				}
				l.over.Wait()
			}
			same(-1)
		})
	}
}
