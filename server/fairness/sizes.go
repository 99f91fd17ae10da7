package fairness

import (
	"k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage/cache"
)

// sizes tells how much there is of a resource: the number is exact, the size of an object is taken from a few.
type sizes struct{ cache *cache.Cache }

// samples of a resource are looked at for the size of its objects.
const samples = 8

// of is asked for "pods" or "deployments.apps". What is not served has no objects and costs as little.
func (s sizes) of(resource string) (storage.Stats, error) {
	if resource == "events.events.k8s.io" {
		resource = "events" // are kept as the core group's
	}
	snapshot := s.cache.Snapshot(resource)
	stats := storage.Stats{ObjectCount: int64(snapshot.Len())}
	var bytes, looked int64
	snapshot.Sample(samples, func(e *cache.Entry) {
		bytes += int64(e.Size())
		looked++
	})
	if looked > 0 {
		stats.EstimatedAverageObjectSizeBytes = (bytes + looked - 1) / looked
	}
	return stats, nil
}
