package cache

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts for all caches that share it: a process hosts many clusters, and its series do not grow with them.
type Metrics struct {
	reloads  prometheus.Counter
	lag      *prometheus.Desc
	watchers *prometheus.Desc
	objects  *prometheus.Desc
	bytes    *prometheus.Desc
	data     *prometheus.Desc
	indexes  *prometheus.Desc
	loads    *prometheus.Desc
	dropped  *prometheus.Desc

	mu      sync.Mutex
	caches  map[*Cache]struct{}
	budgets map[*Budget]struct{} // of these, and of those that have ended: counters do not go back
}

// NewMetrics makes the cache's series and registers them with reg.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		reloads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cache_reloads_total",
			Help: "Times a cache was loaded afresh because it had lost its place in the log.",
		}),
		lag: prometheus.NewDesc("cache_lag_revisions",
			"Revisions known to exist that the cache furthest behind has not reached.", nil, nil),
		watchers: prometheus.NewDesc("cache_watchers", "Open watchers.", nil, nil),
		objects:  prometheus.NewDesc("cache_objects", "Objects held.", nil, nil),
		bytes: prometheus.NewDesc("cache_ring_bytes",
			"Bytes that the history kept for watchers takes.", nil, nil),
		data: prometheus.NewDesc("cache_object_bytes",
			"Bytes of present objects that are in memory.", nil, nil),
		indexes: prometheus.NewDesc("cache_index_bytes",
			"Bytes that indexes of labels and fields take, estimated.", nil, nil),
		loads: prometheus.NewDesc("cache_object_loads_total",
			"Objects read from the database because their bytes had been dropped from memory.", nil, nil),
		dropped: prometheus.NewDesc("cache_object_drops_total",
			"Objects whose bytes were dropped from memory to keep within its bound.", nil, nil),
		caches:  map[*Cache]struct{}{},
		budgets: map[*Budget]struct{}{},
	}
	if err := reg.Register(m); err != nil {
		return nil, err
	}
	return m, nil
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.reloads.Describe(ch)
	for _, d := range []*prometheus.Desc{m.lag, m.watchers, m.objects, m.bytes, m.data, m.indexes, m.loads, m.dropped} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	var lag uint64
	var watchers, objects, bytes, data, indexes, loads, dropped int64
	m.mu.Lock()
	for c := range m.caches {
		watchers += c.watches.Load()
		w := c.world.Load()
		if w == nil {
			continue
		}
		objects += w.objects.Load()
		bytes += w.ledger.bytes.Load()
		indexes += w.indexBytes()
		if at, seen := w.rev.Load(), c.seen.Load(); seen > at {
			lag = max(lag, seen-at)
		}
	}
	for b := range m.budgets {
		data += b.Kept()
		loads += b.Loads()
		dropped += b.Dropped()
	}
	m.mu.Unlock()
	m.reloads.Collect(ch)
	ch <- prometheus.MustNewConstMetric(m.lag, prometheus.GaugeValue, float64(lag))
	ch <- prometheus.MustNewConstMetric(m.watchers, prometheus.GaugeValue, float64(watchers))
	ch <- prometheus.MustNewConstMetric(m.objects, prometheus.GaugeValue, float64(objects))
	ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.GaugeValue, float64(bytes))
	ch <- prometheus.MustNewConstMetric(m.data, prometheus.GaugeValue, float64(data))
	ch <- prometheus.MustNewConstMetric(m.indexes, prometheus.GaugeValue, float64(indexes))
	ch <- prometheus.MustNewConstMetric(m.loads, prometheus.CounterValue, float64(loads))
	ch <- prometheus.MustNewConstMetric(m.dropped, prometheus.CounterValue, float64(dropped))
}

func (m *Metrics) add(c *Cache) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.caches[c] = struct{}{}
	m.budgets[c.budget] = struct{}{}
}

func (m *Metrics) remove(c *Cache) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.caches, c)
}
