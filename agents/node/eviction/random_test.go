package eviction

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/kubelet/eviction/api"
	"k8s.io/utils/ptr"
)

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// random is a node with some pods that has too little of something now and then. It is one thing alone: where there are several, upstream
// leaves to chance what it acts upon first.
func random(t *testing.T, r *rand.Rand) *scenario {
	t.Helper()
	s := &scenario{
		layout: pick(r, Layout{}, Layout{Images: true}, Layout{Images: true, Split: true}), helps: r.IntN(3) == 0,
		starve: pick(r, api.SignalMemoryAvailable, api.SignalMemoryAvailable, api.SignalAllocatableMemoryAvailable, api.SignalNodeFsAvailable,
			api.SignalNodeFsInodesFree, api.SignalImageFsAvailable, api.SignalImageFsInodesFree, api.SignalPIDAvailable),
	}
	if s.layout == (Layout{}) && (s.starve == api.SignalImageFsAvailable || s.starve == api.SignalImageFsInodesFree) {
		s.layout.Images = true
	}
	on := s.starve
	if on == api.SignalAllocatableMemoryAvailable {
		on = api.SignalMemoryAvailable
	}
	thresholds, grace, reclaim := map[string]string{string(on): "10%"}, map[string]string{}, map[string]string{}
	if r.IntN(2) == 0 {
		reclaim[string(on)] = "5%"
	}
	hard, soft := thresholds, map[string]string(nil)
	if s.starve != api.SignalAllocatableMemoryAvailable && r.IntN(2) == 0 {
		hard, soft = nil, thresholds
		grace[string(on)] = "25s"
	}
	var err error
	s.policy = Policy{Transition: pick(r, 30*time.Second, time.Minute), MaxGrace: pick[int64](r, 0, 20), Limits: r.IntN(3) > 0}
	if s.policy.Thresholds, err = Parse(hard, soft, grace, reclaim, true); err != nil {
		t.Fatal(err)
	}
	for level := 0.5; len(s.free) < 30; {
		if r.IntN(3) == 0 {
			level = pick(r, 0.5, 0.5, 0.12, 0.04, 0.001)
		}
		s.free = append(s.free, level)
	}
	for i := range 2 + r.IntN(6) {
		pod, stats := randomPod(r, i)
		s.pods = append(s.pods, pod)
		if r.IntN(10) > 0 {
			s.stats = append(s.stats, stats)
		}
	}
	return s
}

func randomPod(r *rand.Rand, i int) (*corev1.Pod, statsapi.PodStats) {
	name := fmt.Sprintf("p%d", i)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Generation: int64(i + 1)}}
	pod.Spec.Priority = pick(r, nil, ptr.To[int32](0), ptr.To[int32](10), ptr.To[int32](1000), ptr.To[int32](2000000000))
	pod.Spec.TerminationGracePeriodSeconds = pick(r, nil, ptr.To[int64](7), ptr.To[int64](40))
	if r.IntN(4) == 0 {
		pod.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists}}
	}
	stats := statsapi.PodStats{PodRef: statsapi.PodReference{Name: name, Namespace: "default", UID: string(pod.UID)}, ProcessStats: &statsapi.ProcessStats{ProcessCount: ptr.To(r.Uint64N(3000))}}
	mib := func(most int64) resource.Quantity {
		return *resource.NewQuantity((1+r.Int64N(most))<<20, resource.BinarySI)
	}
	fs := func() *statsapi.FsStats {
		return &statsapi.FsStats{UsedBytes: ptr.To(r.Uint64N(300 << 20)), InodesUsed: ptr.To(r.Uint64N(5000))}
	}
	var memory, disk uint64
	limits := r.IntN(4) == 0
	for j := range 1 + r.IntN(2) {
		c := corev1.Container{Name: fmt.Sprintf("c%d", j), Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}}
		if r.IntN(2) == 0 {
			c.Resources.Requests[corev1.ResourceMemory] = mib(1000)
		}
		if r.IntN(2) == 0 {
			c.Resources.Requests[corev1.ResourceEphemeralStorage] = mib(500)
		}
		if limits && r.IntN(2) == 0 {
			c.Resources.Limits[corev1.ResourceEphemeralStorage] = mib(1000)
		}
		pod.Spec.Containers = append(pod.Spec.Containers, c)
		of := statsapi.ContainerStats{Name: c.Name, Rootfs: fs(), Logs: fs(), Memory: &statsapi.MemoryStats{WorkingSetBytes: ptr.To(r.Uint64N(1000 << 20))}}
		if r.IntN(10) == 0 {
			of.Rootfs = nil
		} else {
			disk += *of.Rootfs.UsedBytes
		}
		memory, disk = memory+*of.Memory.WorkingSetBytes, disk+*of.Logs.UsedBytes
		stats.Containers = append(stats.Containers, of)
	}
	for j := range r.IntN(3) {
		v := corev1.Volume{Name: fmt.Sprintf("v%d", j), VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
		if r.IntN(4) == 0 {
			v.EmptyDir.SizeLimit = ptr.To(mib(600))
		}
		if r.IntN(4) == 0 {
			v.EmptyDir.Medium = corev1.StorageMediumMemory
		}
		used := fs()
		if v.EmptyDir.Medium == "" {
			disk += *used.UsedBytes
		}
		pod.Spec.Volumes = append(pod.Spec.Volumes, v)
		stats.VolumeStats = append(stats.VolumeStats, statsapi.VolumeStats{Name: v.Name, FsStats: *used})
	}
	stats.Memory = &statsapi.MemoryStats{WorkingSetBytes: &memory}
	stats.EphemeralStorage = &statsapi.FsStats{UsedBytes: &disk}
	return pod, stats
}
