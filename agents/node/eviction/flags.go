package eviction

import (
	"strconv"

	"k8s.io/kubernetes/pkg/kubelet/eviction/api"
)

// Flags are the thresholds as the kubelet's flags have them: what Parse reads.
func (p Policy) Flags() (hard, soft, grace, reclaim map[string]string) {
	put := func(into *map[string]string, t *api.Threshold, text string) {
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)[string(t.Signal)] = text
	}
	for i := range p.Thresholds {
		t := &p.Thresholds[i]
		if t.Signal == api.SignalAllocatableMemoryAvailable {
			continue // it is what memory.available says, for the cgroup of all pods
		}
		if t.GracePeriod == 0 {
			put(&hard, t, written(t.Value))
		} else {
			put(&soft, t, written(t.Value))
			put(&grace, t, t.GracePeriod.String())
		}
		if t.MinReclaim != nil {
			put(&reclaim, t, written(*t.MinReclaim))
		}
	}
	return hard, soft, grace, reclaim
}

func written(v api.ThresholdValue) string {
	if v.Quantity != nil {
		return v.Quantity.String()
	}
	return strconv.FormatFloat(float64(v.Percentage)*100, 'g', 6, 32) + "%"
}
