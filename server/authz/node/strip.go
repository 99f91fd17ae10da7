package node

import (
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// strip takes away what the graph does not look at: it keeps what objects refer to, of each object its key and UID, and
// of a pod whether it is a mirror of a file on its node.
func strip(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Pod:
		return stripPod(o), nil
	case *corev1.PersistentVolume:
		o.ObjectMeta = stripMeta(&o.ObjectMeta)
		o.Spec.NodeAffinity, o.Spec.Capacity, o.Status = nil, nil, corev1.PersistentVolumeStatus{}
	case *storagev1.VolumeAttachment:
		o.ObjectMeta, o.Status = stripMeta(&o.ObjectMeta), storagev1.VolumeAttachmentStatus{}
	case *resourcev1.ResourceSlice:
		o.ObjectMeta = stripMeta(&o.ObjectMeta)
		o.Spec = resourcev1.ResourceSliceSpec{NodeName: o.Spec.NodeName}
	}
	return obj, nil
}

func stripMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion}
}

func stripPod(p *corev1.Pod) *corev1.Pod {
	small := &corev1.Pod{ObjectMeta: stripMeta(&p.ObjectMeta)}
	if mirror, ok := p.Annotations[corev1.MirrorPodAnnotationKey]; ok {
		small.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: mirror}
	}
	if p.Spec.NodeName == "" {
		return small // nobody's yet
	}
	small.Spec = corev1.PodSpec{
		NodeName: p.Spec.NodeName, ServiceAccountName: p.Spec.ServiceAccountName, Volumes: p.Spec.Volumes,
		ImagePullSecrets: p.Spec.ImagePullSecrets, ResourceClaims: p.Spec.ResourceClaims,
	}
	for _, c := range p.Spec.InitContainers {
		small.Spec.InitContainers = append(small.Spec.InitContainers, stripContainer(c))
	}
	for _, c := range p.Spec.Containers {
		small.Spec.Containers = append(small.Spec.Containers, stripContainer(c))
	}
	for _, c := range p.Spec.EphemeralContainers {
		kept := stripContainer(corev1.Container(c.EphemeralContainerCommon))
		small.Spec.EphemeralContainers = append(small.Spec.EphemeralContainers,
			corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon(kept)})
	}
	small.Status.ResourceClaimStatuses = p.Status.ResourceClaimStatuses
	small.Status.ExtendedResourceClaimStatus = p.Status.ExtendedResourceClaimStatus
	return small
}

// stripContainer keeps what a container takes from Secrets and ConfigMaps.
func stripContainer(c corev1.Container) corev1.Container {
	small := corev1.Container{Name: c.Name, EnvFrom: c.EnvFrom}
	for _, e := range c.Env {
		if e.ValueFrom != nil {
			small.Env = append(small.Env, e)
		}
	}
	return small
}
