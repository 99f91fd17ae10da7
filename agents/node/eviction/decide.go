package eviction

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/kubelet/eviction/api"
)

// observation is how much there is of something, and how much of that is free.
type observation struct {
	available, capacity *resource.Quantity
	at                  metav1.Time
}

// observations are those that could be made.
type observations map[api.Signal]observation

// observe finds in what was measured of the node how much is left.
func observe(node *statsapi.NodeStats) observations {
	seen := observations{}
	memory := func(name api.Signal, m *statsapi.MemoryStats) {
		if m != nil && m.AvailableBytes != nil && m.WorkingSetBytes != nil {
			seen[name] = observation{
				resource.NewQuantity(int64(*m.AvailableBytes), resource.BinarySI),
				resource.NewQuantity(int64(*m.AvailableBytes+*m.WorkingSetBytes), resource.BinarySI), m.Time,
			}
		}
	}
	disk := func(bytes, files api.Signal, fs *statsapi.FsStats) {
		if fs == nil {
			return
		}
		if fs.AvailableBytes != nil && fs.CapacityBytes != nil {
			seen[bytes] = observation{
				resource.NewQuantity(int64(*fs.AvailableBytes), resource.BinarySI), resource.NewQuantity(int64(*fs.CapacityBytes), resource.BinarySI), fs.Time,
			}
		}
		if fs.InodesFree != nil && fs.Inodes != nil && *fs.Inodes > 0 { // file systems such as btrfs count none
			seen[files] = observation{
				resource.NewQuantity(int64(*fs.InodesFree), resource.DecimalSI), resource.NewQuantity(int64(*fs.Inodes), resource.DecimalSI), fs.Time,
			}
		}
	}
	memory(api.SignalMemoryAvailable, node.Memory)
	for i := range node.SystemContainers {
		if node.SystemContainers[i].Name == statsapi.SystemContainerPods {
			memory(api.SignalAllocatableMemoryAvailable, node.SystemContainers[i].Memory)
		}
	}
	disk(api.SignalNodeFsAvailable, api.SignalNodeFsInodesFree, node.Fs)
	if node.Runtime != nil {
		disk(api.SignalImageFsAvailable, api.SignalImageFsInodesFree, node.Runtime.ImageFs)
		disk(api.SignalContainerFsAvailable, api.SignalContainerFsInodesFree, node.Runtime.ContainerFs)
	}
	if r := node.Rlimit; r != nil && r.NumOfRunningProcesses != nil && r.MaxPID != nil {
		seen[api.SignalPIDAvailable] = observation{
			resource.NewQuantity(*r.MaxPID-*r.NumOfRunningProcesses, resource.DecimalSI), resource.NewQuantity(*r.MaxPID, resource.DecimalSI), r.Time,
		}
	}
	return seen
}

// crossed tells whether there is less than the threshold; enough: or less than is to be reclaimed beside it.
func crossed(t *api.Threshold, seen observations, enough bool) bool {
	o, ok := seen[t.Signal]
	if !ok {
		return false
	}
	want := api.GetThresholdQuantity(t.Value, o.capacity)
	if enough && t.MinReclaim != nil {
		want.Add(*api.GetThresholdQuantity(*t.MinReclaim, o.capacity))
	}
	return want.Cmp(*o.available) > 0
}

// state is what is remembered from one look to the next. Thresholds are known by their places in the list.
type state struct {
	first map[int]time.Time                      // since when each is crossed
	due   []int                                  // that were acted upon, and are not resolved
	under map[corev1.NodeConditionType]time.Time // when the node was last seen so
	last  observations
}

// look takes over what was observed, and returns what the node is under pressure of, and the thresholds that are to be acted upon, the
// most urgent first. A threshold that was acted upon is so until what it is to reclaim is free. What was not measured anew since the last
// look is not acted upon twice.
func (s *state) look(thresholds []api.Threshold, seen observations, transition time.Duration, now time.Time) (pressure []corev1.NodeConditionType, due []api.Threshold) {
	first, under := map[int]time.Time{}, map[corev1.NodeConditionType]time.Time{}
	for condition, at := range s.under {
		under[condition] = at
	}
	s.due, s.first = s.step(thresholds, seen, now, first), first
	for i := range first {
		under[about(&thresholds[i]).condition] = now
	}
	for condition, at := range under {
		if at.Equal(now) || now.Sub(at) < transition {
			pressure = append(pressure, condition)
		} else {
			delete(under, condition)
		}
	}
	slices.Sort(pressure)
	for _, i := range s.due {
		name := thresholds[i].Signal
		before, known := s.last[name]
		if at := seen[name].at; !known || at.IsZero() || !at.Time.Equal(before.at.Time) { // clocks are also set back
			due = append(due, thresholds[i])
		}
	}
	s.under, s.last = under, seen
	return pressure, due
}

// step finds what is crossed, writes down since when, and returns what has been for long enough.
func (s *state) step(thresholds []api.Threshold, seen observations, now time.Time, first map[int]time.Time) (due []int) {
	for i := range thresholds {
		t := &thresholds[i]
		if !crossed(t, seen, slices.Contains(s.due, i)) {
			continue
		}
		since, known := s.first[i]
		if !known {
			since = now
		}
		first[i] = since
		if now.Sub(since) >= t.GracePeriod {
			due = append(due, i)
		}
	}
	return due
}

// resolved tells whether enough is free of everything.
func resolved(thresholds []api.Threshold, seen observations) bool {
	return !slices.ContainsFunc(thresholds, func(t api.Threshold) bool { return crossed(&t, seen, true) })
}

// reclaim is what of the node's own can be removed, in this order, before pods are evicted.
type reclaim struct{ containers, images bool }

func (r reclaim) any() bool { return r.containers || r.images }

func (l Layout) reclaim(name api.Signal) reclaim {
	onImages := name == api.SignalImageFsAvailable || name == api.SignalImageFsInodesFree
	onNode := name == api.SignalNodeFsAvailable || name == api.SignalNodeFsInodesFree
	onContainers := name == api.SignalContainerFsAvailable || name == api.SignalContainerFsInodesFree
	switch {
	case !onImages && !onNode && !onContainers:
		return reclaim{}
	case l.Images && l.Split:
		return reclaim{containers: !onImages, images: onImages}
	case l.Images && onNode:
		return reclaim{} // what fills it are logs and volumes
	}
	return reclaim{containers: true, images: true}
}
