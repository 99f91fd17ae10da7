package filters

import (
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"
)

// latency keeps the time apart that a request waits for webhooks and seats: apiserver_request_sli_duration_seconds is the
// time without it. Watches have none.
type latency struct {
	on       bool
	trackers request.LatencyTrackers
	sums     [8]sum
	longest  [3]longest
}

func (l *latency) init() {
	l.on = true
	l.trackers = request.LatencyTrackers{
		MutatingWebhookTracker: &l.sums[0], AuthenticationTracker: &l.sums[1], StorageTracker: &l.sums[2],
		TransformTracker: &l.sums[3], SerializationTracker: &l.sums[4], ResponseWriteTracker: &l.sums[5],
		DecodeTracker: &l.sums[6], ImpersonationTracker: &l.sums[7],
		ValidatingWebhookTracker: &l.longest[0], AuthorizationTracker: &l.longest[1], APFQueueWaitTracker: &l.longest[2],
	}
}

// sum is the time of what is done one after the other.
type sum struct{ ns atomic.Int64 }

var _ request.DurationTracker = &sum{}

// Track implements request.DurationTracker.
func (s *sum) Track(f func()) {
	began := time.Now()
	defer func() { s.TrackDuration(time.Since(began)) }()
	f()
}

// TrackDuration implements request.DurationTracker.
func (s *sum) TrackDuration(d time.Duration) { s.ns.Add(int64(d)) }

// GetLatency implements request.DurationTracker.
func (s *sum) GetLatency() time.Duration { return time.Duration(s.ns.Load()) }

// longest is the time of what is done at the same time.
type longest struct{ ns atomic.Int64 }

var _ request.DurationTracker = &longest{}

// Track implements request.DurationTracker.
func (l *longest) Track(f func()) {
	began := time.Now()
	defer func() { l.TrackDuration(time.Since(began)) }()
	f()
}

// TrackDuration implements request.DurationTracker.
func (l *longest) TrackDuration(d time.Duration) {
	for old := l.ns.Load(); int64(d) > old && !l.ns.CompareAndSwap(old, int64(d)); old = l.ns.Load() {
	}
}

// GetLatency implements request.DurationTracker.
func (l *longest) GetLatency() time.Duration { return time.Duration(l.ns.Load()) }
