package controlplane

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
	handlers "k8s.io/apiserver/pkg/endpoints/handlers/metrics"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/metrics/prometheus/compatversion"
	_ "k8s.io/component-base/metrics/prometheus/restclient" // registers what client-go counts
	_ "k8s.io/component-base/metrics/prometheus/version"    // and the version
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/rowlock-io/rowlock/server/aggregation"
	"github.com/rowlock-io/rowlock/server/tunnels"
	"github.com/rowlock-io/rowlock/storage/cache"
	"github.com/rowlock-io/rowlock/storage/commit"
	"github.com/rowlock-io/rowlock/storage/retention"
)

// Metrics are those of the storage of all clusters of a process.
type Metrics struct {
	cache     *cache.Metrics
	commit    *commit.Metrics
	retention *retention.Metrics

	aggregation *aggregation.Metrics // nil: not counted
	agents      *agentMetrics
	tunnels     *tunnels.Metrics
}

// NewMetrics registers the series of storage.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	c, err := cache.NewMetrics(reg)
	if err != nil {
		return nil, err
	}
	r, err := retention.NewMetrics(reg)
	if err != nil {
		return nil, err
	}
	a, err := newAgentMetrics(reg)
	if err != nil {
		return nil, err
	}
	t, err := tunnels.NewMetrics(reg)
	if err != nil {
		return nil, err
	}
	return &Metrics{tunnels: t, cache: c, commit: commit.NewMetrics(reg), retention: r, agents: a}, nil
}

// countRequests registers upstream's series, which the process has once. Until then upstream counts nothing, and what asked
// for a series before keeps counting nothing.
func countRequests() {
	metrics.Register()
	handlers.Register()
	serviceaccount.RegisterMetrics()
	utilfeature.DefaultMutableFeatureGate.AddMetrics()
	v := compatibility.DefaultBuildEffectiveVersion()
	compatversion.RecordCompatVersionInfo(context.Background(), "kube", v.BinaryVersion().String(), v.EmulationVersion().String(), v.MinCompatibilityVersion().String())
}

// watchSizes feeds upstream's sizes and counts of watch events of a resource.
func watchSizes(gvr schema.GroupVersionResource) func(bytes int) {
	events := metrics.WatchEvents.WithLabelValues(gvr.Group, gvr.Version, gvr.Resource)
	sizes := metrics.WatchEventsSizes.WithLabelValues(gvr.Group, gvr.Version, gvr.Resource)
	return func(bytes int) {
		events.Inc()
		sizes.Observe(float64(bytes))
	}
}
