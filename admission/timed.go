package admission

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	upstream "k8s.io/apiserver/pkg/admission"
	admissionmetrics "k8s.io/apiserver/pkg/admission/metrics"
	basemetrics "k8s.io/component-base/metrics"

	"github.com/rowlock-io/rowlock/series"
)

// timed counts how long a plug-in takes, in upstream's series of it. A write passes some two dozen plug-ins, most of which
// only look at its resource, so looking up the series took longer than they do.
type timed struct {
	upstream.Interface
	name     string
	admits   times
	validate times
}

func withTimes(plugin upstream.Interface, name string) upstream.Interface {
	return &timed{Interface: plugin, name: name, admits: times{step: "admit"}, validate: times{step: "validate"}}
}

// Admit implements upstream.MutationInterface.
func (t *timed) Admit(ctx context.Context, a upstream.Attributes, o upstream.ObjectInterfaces) error {
	plugin, ok := t.Interface.(upstream.MutationInterface)
	if !ok {
		return nil
	}
	began := time.Now()
	err := plugin.Admit(ctx, a, o)
	t.admits.note(ctx, t.name, began, a, err != nil)
	return err
}

// Validate implements upstream.ValidationInterface.
func (t *timed) Validate(ctx context.Context, a upstream.Attributes, o upstream.ObjectInterfaces) error {
	plugin, ok := t.Interface.(upstream.ValidationInterface)
	if !ok {
		return nil
	}
	began := time.Now()
	err := plugin.Validate(ctx, a, o)
	t.validate.note(ctx, t.name, began, a, err != nil)
	return err
}

// times are the series of what a plug-in let pass in one step. What it refused is looked up: refusals are rare.
type times struct {
	step                             string
	create, update, deletes, connect atomic.Pointer[passed]
}

// passed is the series of one operation.
type passed struct {
	took basemetrics.ObserverMetric
	at   time.Time
}

// passedFor is how long a series is believed: an administrator may have the series reset, and then they are others.
const passedFor = time.Second

func (t *times) note(ctx context.Context, name string, began time.Time, a upstream.Attributes, refused bool) {
	now := time.Now()
	took := now.Sub(began)
	of := t.of(a.GetOperation())
	if refused || of == nil || trace.SpanContextFromContext(ctx).IsSampled() { // whose traces are examples in the series
		admissionmetrics.Metrics.ObserveAdmissionController(ctx, took, refused, a, t.step, name)
		return
	}
	known := of.Load()
	if known == nil || now.Sub(known.at) > passedFor {
		known = &passed{controllers().WithLabelValues(name, t.step, string(a.GetOperation()), "false"), now}
		of.Store(known)
	}
	known.took.Observe(took.Seconds())
}

func (t *times) of(op upstream.Operation) *atomic.Pointer[passed] {
	switch op {
	case upstream.Create:
		return &t.create
	case upstream.Update:
		return &t.update
	case upstream.Delete:
		return &t.deletes
	case upstream.Connect:
		return &t.connect
	}
	return nil
}

// controllers are upstream's series of plug-ins.
var controllers = sync.OnceValue(func() *basemetrics.HistogramVec {
	return series.Find[*basemetrics.HistogramVec]("apiserver_admission_controller_admission_duration_seconds",
		"[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
		"name", "type", "operation", "rejected")
})
