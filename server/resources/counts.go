package resources

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	basemetrics "k8s.io/component-base/metrics"

	"github.com/rowlock-io/rowlock/series"
)

// counts keep upstream's series of the requests that one route answers. Upstream looks up six of them, by up to nine labels,
// with each request; most requests of a route have the same labels but for verb and status.
type counts struct {
	metric
	verb, scope string // of the route
	plain       bool   // verb and status tell its series apart, but for what says something special

	mu    sync.RWMutex
	found map[outcome]*tally
}

type outcome struct {
	verb string
	code int
}

// tally are the series of one outcome.
type tally struct {
	total           basemetrics.CounterMetric
	took, own, size basemetrics.ObserverMetric
	at              time.Time
}

// tallyFor is how long a tally is believed: an administrator may have the series reset, and then they are others.
const tallyFor = time.Second

func newCounts(m metric, verb, scope string) *counts {
	c := &counts{metric: m, verb: verb, scope: scope, found: map[outcome]*tally{}}
	switch verb {
	case metrics.MethodGet, metrics.MethodList, metrics.MethodPost, metrics.MethodPut, metrics.MethodPatch, metrics.MethodDelete, metrics.MethodDeleteCollection:
		c.plain = !m.deprecated
	}
	switch m.subresource {
	case "log", "exec", "portforward", "attach", "proxy":
		c.plain = false
	}
	return c
}

// Counted is a handler whose answers are counted as those of a resource, or of a subresource: verb is that of the method as
// package request has it, scope what metrics.CleanScope says of the path.
func Counted(of schema.GroupVersionResource, subresource, verb, scope string, deprecated bool, handler http.HandlerFunc) http.HandlerFunc {
	m := metric{group: of.Group, version: of.Version, resource: of.Resource, subresource: subresource, deprecated: deprecated}
	return newCounts(m, verb, scope).handle(handler)
}

// handle counts what a handler answers.
func (c *counts) handle(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		received, ok := request.ReceivedTimestampFrom(req.Context())
		if !ok {
			received = time.Now()
		}
		answer := &metrics.ResponseWriterDelegator{ResponseWriter: w}
		handler(responsewriter.WrapForHTTP1Or2(answer), req)
		now := time.Now()
		if c.note(req, answer.Status(), answer.ContentLength(), now.Sub(received), now) {
			return
		}
		metrics.MonitorRequest(req, c.verb, c.group, c.version, c.resource, c.subresource, c.scope, metrics.APIServerComponent,
			c.deprecated, c.removed, answer.Status(), answer.ContentLength(), now.Sub(received))
	}
}

// note counts a request in series that are known. Where it returns false, upstream has to count it.
func (c *counts) note(req *http.Request, code, size int, took time.Duration, now time.Time) bool {
	if !c.plain || special(req) || trace.SpanContextFromContext(req.Context()).IsSampled() { // whose traces are examples in the series
		return false
	}
	who, ok := request.UserFrom(req.Context())
	if ok && who.GetName() == user.APIServerUser {
		return false
	}
	o := outcome{metrics.CanonicalVerb(req.Method, c.scope), code}
	if o.verb == metrics.MethodPatch && req.Header.Get("Content-Type") == string(types.ApplyPatchType) {
		o.verb = metrics.MethodApply
	}
	c.mu.RLock()
	t := c.found[o]
	c.mu.RUnlock()
	if t == nil || now.Sub(t.at) > tallyFor {
		defer c.find(o, now) // upstream makes them
		return false
	}
	t.total.Inc()
	t.took.Observe(took.Seconds())
	if l, ok := request.LatencyTrackersFrom(req.Context()); ok {
		others := l.MutatingWebhookTracker.GetLatency() + l.ValidatingWebhookTracker.GetLatency() + l.APFQueueWaitTracker.GetLatency()
		t.own.Observe((took - others).Seconds())
	}
	if c.verb == metrics.MethodGet || c.verb == metrics.MethodList {
		t.size.Observe(float64(size))
	}
	return true
}

// special tells whether the query may say something that is a label.
func special(req *http.Request) bool {
	query := req.URL.RawQuery
	return query != "" && (strings.Contains(query, "dryRun") || strings.Contains(query, "fieldValidation") ||
		req.Method == http.MethodGet && (strings.Contains(query, "watch") || strings.Contains(query, "%")))
}

// vectors are upstream's series of all requests.
type vectors struct {
	total           *basemetrics.CounterVec
	took, own, size *basemetrics.HistogramVec
}

var upstreams = sync.OnceValue(func() *vectors {
	metrics.Register()
	return &vectors{
		total: series.Find[*basemetrics.CounterVec]("apiserver_request_total",
			"[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
			"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"),
		took: series.Find[*basemetrics.HistogramVec]("apiserver_request_duration_seconds",
			"[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
			"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"),
		own: series.Find[*basemetrics.HistogramVec]("apiserver_request_sli_duration_seconds",
			"[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
			"verb", "group", "version", "resource", "subresource", "scope", "component"),
		size: series.Find[*basemetrics.HistogramVec]("apiserver_response_sizes",
			"[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
			"verb", "group", "version", "resource", "subresource", "scope", "component"),
	}
})

func (c *counts) find(o outcome, now time.Time) {
	v, of := upstreams(), metrics.APIServerComponent
	t := &tally{
		at:    now,
		total: v.total.WithLabelValues(o.verb, "", c.group, c.version, c.resource, c.subresource, c.scope, of, strconv.Itoa(o.code)),
		took:  v.took.WithLabelValues(o.verb, "", c.group, c.version, c.resource, c.subresource, c.scope, of),
		own:   v.own.WithLabelValues(o.verb, c.group, c.version, c.resource, c.subresource, c.scope, of),
	}
	if c.verb == metrics.MethodGet || c.verb == metrics.MethodList {
		t.size = v.size.WithLabelValues(o.verb, c.group, c.version, c.resource, c.subresource, c.scope, of)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found[o] = t
}
