package fairness

import (
	"context"
	"sync"
	"time"

	epmetrics "k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/util/flowcontrol/metrics"
)

// Marks count the requests of all clusters of a process that have or wait for a seat, in kube-apiserver's series. The zero
// value is ready; nil counts nothing.
type Marks struct {
	once sync.Once
	has  mark
	asks mark
}

type mark struct {
	readOnly, mutating watermark
}

type watermark struct {
	gauge metrics.RatioedGauge

	mu        sync.Mutex
	now, most int
}

func (m *Marks) executing(mutating bool, delta int) { m.add(&m.has, mutating, delta) }

func (m *Marks) waiting(mutating bool, delta int) { m.add(&m.asks, mutating, delta) }

func (m *Marks) add(to *mark, mutating bool, delta int) {
	if m == nil {
		return
	}
	m.once.Do(func() {
		m.has.readOnly.gauge, m.has.mutating.gauge = metrics.GetExecutingReadonlyConcurrency(), metrics.GetExecutingMutatingConcurrency()
		m.asks.readOnly.gauge, m.asks.mutating.gauge = metrics.GetWaitingReadonlyConcurrency(), metrics.GetWaitingMutatingConcurrency()
	})
	w := &to.readOnly
	if mutating {
		w = &to.mutating
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now += delta
	w.most = max(w.most, w.now)
	w.gauge.Set(float64(w.now))
}

// reset tells the most there were at a time since it was asked last.
func (w *watermark) reset() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	most := w.most
	w.most = 0
	return most
}

// markEvery is how often the most of the time since is told.
const markEvery = time.Second

// report tells, until ctx ends, how many requests there are at most.
func (m *Marks) report(ctx context.Context) {
	if m == nil {
		return
	}
	ticker := time.NewTicker(markEvery)
	defer ticker.Stop()
	for {
		epmetrics.UpdateInflightRequestMetrics(epmetrics.ExecutingPhase, m.has.readOnly.reset(), m.has.mutating.reset())
		epmetrics.UpdateInflightRequestMetrics(epmetrics.WaitingPhase, m.asks.readOnly.reset(), m.asks.mutating.reset())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
