package fairness

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowlock-io/rowlock/storage/cache"
)

// objects tells how much there is of each resource, in kube-apiserver's series.
type objects struct {
	sizes
	count, size, older *prometheus.Desc
}

// Objects collects what there is in one cluster. It looks at the cache when it is asked.
func Objects(c *cache.Cache) prometheus.Collector {
	labels := []string{"group", "resource"}
	return objects{
		sizes: sizes{cache: c},
		count: prometheus.NewDesc("apiserver_resource_objects", "Number of stored objects at the time of last check split by kind.", labels, nil),
		size:  prometheus.NewDesc("apiserver_resource_size_estimate_bytes", "Estimated size of stored objects: their number times the size of a few.", labels, nil),
		older: prometheus.NewDesc("apiserver_storage_objects", "Number of stored objects at the time of last check split by kind. apiserver_resource_objects has them by group too.", labels[1:], nil),
	}
}

// Describe implements prometheus.Collector.
func (o objects) Describe(to chan<- *prometheus.Desc) {
	to <- o.count
	to <- o.size
	to <- o.older
}

// Collect implements prometheus.Collector.
func (o objects) Collect(to chan<- prometheus.Metric) {
	for _, name := range o.cache.Resources() {
		stats, err := o.of(name)
		if err != nil {
			continue
		}
		resource, group, _ := strings.Cut(name, ".")
		count := float64(stats.ObjectCount)
		to <- prometheus.MustNewConstMetric(o.count, prometheus.GaugeValue, count, group, resource)
		to <- prometheus.MustNewConstMetric(o.size, prometheus.GaugeValue, count*float64(stats.EstimatedAverageObjectSizeBytes), group, resource)
		to <- prometheus.MustNewConstMetric(o.older, prometheus.GaugeValue, count, name)
	}
}
