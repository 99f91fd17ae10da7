package eviction

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	v1resource "k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/kubelet/eviction/api"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
)

// usage is what pods use, by their UIDs.
type usage map[types.UID]*statsapi.PodStats

func usageOf(pods []statsapi.PodStats) usage {
	of := usage{}
	for i := range pods {
		of[types.UID(pods[i].PodRef.UID)] = &pods[i]
	}
	return of
}

// parts are what of a pod's use of the disk counts.
type parts struct{ root, logs, volumes bool }

// counts is what pods put on the file system of a signal.
func (l Layout) counts(name api.Signal) parts {
	onImages := name == api.SignalImageFsAvailable || name == api.SignalImageFsInodesFree
	onNode := name == api.SignalNodeFsAvailable || name == api.SignalNodeFsInodesFree
	switch {
	case !l.Images:
		return parts{root: true, logs: true, volumes: true}
	case l.Split && onImages:
		return parts{} // no pod writes there
	case l.Split:
		return parts{root: true, logs: true, volumes: true}
	case onNode:
		return parts{logs: true, volumes: true}
	}
	return parts{root: true}
}

// rank sorts pods by whom to evict first: who uses more than it requested, then who matters least, then who uses most above its request.
// Of processes nobody requests any.
func (l Layout) rank(pods []*corev1.Pod, of usage, name api.Signal) {
	var exceeds, uses func(a, b *corev1.Pod) int
	switch what := signals[place(name)].resource; what {
	case corev1.ResourceMemory:
		exceeds, uses = compare(of, corev1.ResourceMemory, corev1.ResourceMemory, memoryOf)
	case pids:
		uses = func(a, b *corev1.Pod) int { return cmp.Compare(processes(of[b.UID]), processes(of[a.UID])) }
		exceeds = func(*corev1.Pod, *corev1.Pod) int { return 0 }
	default:
		counted := l.counts(name)
		exceeds, uses = compare(of, what, corev1.ResourceEphemeralStorage, func(pod *corev1.Pod, s *statsapi.PodStats) resource.Quantity {
			return counted.of(pod, s, what)
		})
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(exceeds(a, b), cmp.Compare(corev1helpers.PodPriority(a), corev1helpers.PodPriority(b)), unknown(of, a, b), uses(a, b))
	})
}

// unknown puts pods first of which nothing was measured.
func unknown(of usage, a, b *corev1.Pod) int {
	return first(of[a.UID] == nil, of[b.UID] == nil)
}

// first puts those first of which something is so.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// compare compares pods by whether they use more than they request, and by how much more. Nobody requests inodes: whoever uses one
// exceeds that, and what is compared is, as upstream has it, above what is requested of the disk.
func compare(
	of usage, name, above corev1.ResourceName, used func(*corev1.Pod, *statsapi.PodStats) resource.Quantity,
) (exceeds, uses func(a, b *corev1.Pod) int) {
	over := func(pod *corev1.Pod, name corev1.ResourceName) resource.Quantity {
		rest := used(pod, of[pod.UID])
		rest.Sub(v1resource.GetResourceRequestQuantity(pod, name))
		return rest
	}
	measured := func(a, b *corev1.Pod) bool { return of[a.UID] != nil && of[b.UID] != nil }
	exceeds = func(a, b *corev1.Pod) int {
		if !measured(a, b) {
			return unknown(of, a, b)
		}
		x, y := over(a, name), over(b, name)
		return first(x.Sign() > 0, y.Sign() > 0)
	}
	uses = func(a, b *corev1.Pod) int {
		if !measured(a, b) {
			return 0
		}
		x, y := over(a, above), over(b, above)
		return y.Cmp(x)
	}
	return exceeds, uses
}

func memoryOf(_ *corev1.Pod, s *statsapi.PodStats) resource.Quantity {
	if s.Memory == nil {
		return bytesOf(nil)
	}
	return bytesOf(s.Memory.WorkingSetBytes)
}

func processes(s *statsapi.PodStats) uint64 {
	if s == nil || s.ProcessStats == nil || s.ProcessStats.ProcessCount == nil {
		return 0
	}
	return *s.ProcessStats.ProcessCount
}

// of is how much a pod uses of the parts that count.
func (p parts) of(pod *corev1.Pod, s *statsapi.PodStats, name corev1.ResourceName) resource.Quantity {
	format, part := resource.BinarySI, func(fs *statsapi.FsStats) *uint64 { return fs.UsedBytes }
	if name == inodes {
		format, part = resource.DecimalSI, func(fs *statsapi.FsStats) *uint64 { return fs.InodesUsed }
	}
	var sum uint64
	add := func(counts bool, fs *statsapi.FsStats) {
		if counts && fs != nil {
			if n := part(fs); n != nil {
				sum += *n
			}
		}
	}
	for i := range s.Containers {
		add(p.root, s.Containers[i].Rootfs)
		add(p.logs, s.Containers[i].Logs)
	}
	for i := range s.VolumeStats {
		v := &s.VolumeStats[i]
		add(p.volumes && slices.ContainsFunc(pod.Spec.Volumes, func(of corev1.Volume) bool {
			return of.Name == v.Name && (of.HostPath != nil || volumeutil.IsLocalEphemeralVolume(of))
		}), &v.FsStats)
	}
	return *resource.NewQuantity(int64(sum), format)
}

func bytesOf(n *uint64) resource.Quantity {
	if n == nil {
		return resource.Quantity{Format: resource.BinarySI}
	}
	return *resource.NewQuantity(int64(*n), resource.BinarySI)
}

// disk is how much is used of a file system.
func disk(fs *statsapi.FsStats) resource.Quantity {
	if fs == nil {
		return bytesOf(nil)
	}
	return bytesOf(fs.UsedBytes)
}
