package fairness

import (
	"sync"

	"k8s.io/apiserver/pkg/util/flowcontrol/metrics"
	basemetrics "k8s.io/component-base/metrics"

	"github.com/rowlock-io/rowlock/series"
)

// flowSeries are upstream's of one flow schema at one priority level, found once: upstream looks them up, and makes contexts
// for them, with each request.
type flowSeries struct {
	schema      string
	dispatched  basemetrics.CounterMetric
	executing   basemetrics.GaugeMetric
	seats       basemetrics.GaugeMetric
	length      basemetrics.ObserverMetric
	waited      basemetrics.ObserverMetric
	estimated   basemetrics.ObserverMetric
	took        basemetrics.ObserverMetric
	initialized basemetrics.ObserverMetric // how long watches took until they had begun
}

func seriesOf(level, schema string) *flowSeries {
	v := upstreams()
	return &flowSeries{
		schema:      schema,
		dispatched:  v.dispatched.WithLabelValues(level, schema),
		executing:   v.executing.WithLabelValues(level, schema),
		seats:       v.seats.WithLabelValues(level, schema),
		length:      v.length.WithLabelValues(level, schema),
		waited:      v.waited.WithLabelValues(level, schema, "true"),
		estimated:   v.estimated.WithLabelValues(level, schema),
		took:        v.took.WithLabelValues(level, schema, "regular"),
		initialized: v.took.WithLabelValues(level, schema, "watch"),
	}
}

// vectors are upstream's series of all flow schemas and levels.
type vectors struct {
	dispatched                      *basemetrics.CounterVec
	executing, seats                *basemetrics.GaugeVec
	length, waited, estimated, took *basemetrics.HistogramVec
}

// upstreams finds the vectors in the registry: upstream registers them and keeps them to itself. It panics where upstream has
// other names, texts or labels, so a new version of upstream does not get past the first test.
var upstreams = sync.OnceValue(func() *vectors {
	metrics.Register()
	const level, schema = "priority_level", "flow_schema"
	return &vectors{
		dispatched: series.Find[*basemetrics.CounterVec]("apiserver_flowcontrol_dispatched_requests_total",
			"[BETA] Number of requests executed by API Priority and Fairness subsystem", level, schema),
		executing: series.Find[*basemetrics.GaugeVec]("apiserver_flowcontrol_current_executing_requests",
			"[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem", level, schema),
		seats: series.Find[*basemetrics.GaugeVec]("apiserver_flowcontrol_current_executing_seats",
			"[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem", level, schema),
		length: series.Find[*basemetrics.HistogramVec]("apiserver_flowcontrol_request_queue_length_after_enqueue",
			"[ALPHA] Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued", level, schema),
		waited: series.Find[*basemetrics.HistogramVec]("apiserver_flowcontrol_request_wait_duration_seconds",
			"[BETA] Length of time a request spent waiting in its queue", level, schema, "execute"),
		estimated: series.Find[*basemetrics.HistogramVec]("apiserver_flowcontrol_work_estimated_seats",
			"[ALPHA] Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness", level, schema),
		took: series.Find[*basemetrics.HistogramVec]("apiserver_flowcontrol_request_execution_seconds",
			"[ALPHA] Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem", level, schema, "type"),
	}
})
