package eviction

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"
)

// Signals of pods that have more of the disk than they may, as upstream counts them.
const (
	signalEmptyDir  = "emptydirfs.limit"
	signalPod       = "ephemeralpodfs.limit"
	signalContainer = "ephemeralcontainerfs.limit"
)

// limited tells whether a pod may have only so much of the disk.
func limited(pod *corev1.Pod) bool {
	_, ofPod := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	return ofPod || slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil && v.EmptyDir.SizeLimit.Sign() > 0
	})
}

// overLimit says why a pod has more of the disk than it may; nil: it has not.
func (l Layout) overLimit(pod *corev1.Pod, used *statsapi.PodStats) *victim {
	if used == nil {
		return nil
	}
	kind, message := l.exceeded(pod, used)
	if message == "" {
		return nil
	}
	return &victim{pod: pod, signal: kind, message: message, grace: ptr.To[int64](atOnce)}
}

func (l Layout) exceeded(pod *corev1.Pod, used *statsapi.PodStats) (kind, message string) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		for j := range used.VolumeStats {
			if s := &used.VolumeStats[j]; s.Name == v.Name && s.UsedBytes != nil {
				if q := disk(&s.FsStats); q.Cmp(*v.EmptyDir.SizeLimit) > 0 {
					return signalEmptyDir, fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
				}
			}
		}
	}
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	if most, ok := limits[corev1.ResourceEphemeralStorage]; ok {
		if q := disk(used.EphemeralStorage); q.Cmp(most) > 0 {
			return signalPod, fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", most.String())
		}
	}
	for i := range used.Containers {
		s := &used.Containers[i]
		q := disk(s.Logs)
		if !l.Images { // else what it writes is elsewhere
			q.Add(disk(s.Rootfs))
		}
		at := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == s.Name })
		if at < 0 {
			continue
		}
		if most := pod.Spec.Containers[at].Resources.Limits.StorageEphemeral(); !most.IsZero() && q.Cmp(*most) > 0 {
			return signalContainer, fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", s.Name, most.String())
		}
	}
	return "", ""
}
