package volume

import (
	"bytes"
	"context"
	"errors"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	upstream "k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/secret"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
)

type projection = map[string]volumeutil.FileProjection

// configMap returns one that may be missing as an empty one.
func (m *Manager) configMap(ctx context.Context, namespace, name string, optional bool) (*corev1.ConfigMap, error) {
	found, err := m.config.Objects.ConfigMap(ctx, namespace, name)
	if optional && apierrors.IsNotFound(err) {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}, nil
	}
	return found, err
}

func (m *Manager) secret(ctx context.Context, namespace, name string, optional bool) (*corev1.Secret, error) {
	found, err := m.config.Objects.Secret(ctx, namespace, name)
	if optional && apierrors.IsNotFound(err) {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}, nil
	}
	return found, err
}

func isTrue(b *bool) bool { return b != nil && *b }

func (m *Manager) configMapFiles(ctx context.Context, v *Volume) (projection, error) {
	source := v.Spec.ConfigMap
	found, err := m.configMap(ctx, v.Pod.Namespace, source.Name, isTrue(source.Optional))
	if err != nil {
		return nil, err
	}
	return configmap.MakePayload(source.Items, found, source.DefaultMode, isTrue(source.Optional))
}

func (m *Manager) secretFiles(ctx context.Context, v *Volume) (projection, error) {
	source := v.Spec.Secret
	found, err := m.secret(ctx, v.Pod.Namespace, source.SecretName, isTrue(source.Optional))
	if err != nil {
		return nil, err
	}
	return secret.MakePayload(source.Items, found, source.DefaultMode, isTrue(source.Optional))
}

// node is all that upstream's downward API asks its host for.
type node struct {
	upstream.VolumeHost
	allocatable func() corev1.ResourceList
}

func (n node) GetNodeAllocatable() (corev1.ResourceList, error) { return n.allocatable(), nil }

func (m *Manager) downwardFiles(_ context.Context, v *Volume) (projection, error) {
	return m.downward(v.Spec.DownwardAPI.Items, v.Pod, v.Spec.DownwardAPI.DefaultMode)
}

func (m *Manager) downward(items []corev1.DownwardAPIVolumeFile, pod *corev1.Pod, mode *int32) (projection, error) {
	return downwardapi.CollectData(items, pod, node{allocatable: m.config.Allocatable}, mode)
}

func (m *Manager) projectedFiles(ctx context.Context, v *Volume) (projection, error) {
	if v.Spec.Projected.DefaultMode == nil {
		return nil, errors.New("no defaultMode used, not even the default value for it")
	}
	all := projection{}
	var errs []error
	for i := range v.Spec.Projected.Sources {
		files, err := m.projected(ctx, v, &v.Spec.Projected.Sources[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		maps.Copy(all, files)
	}
	return all, utilerrors.NewAggregate(errs)
}

func (m *Manager) projected(ctx context.Context, v *Volume, source *corev1.VolumeProjection) (projection, error) {
	mode := v.Spec.Projected.DefaultMode
	switch {
	case source.Secret != nil:
		found, err := m.secret(ctx, v.Pod.Namespace, source.Secret.Name, isTrue(source.Secret.Optional))
		if err != nil {
			return nil, err
		}
		return secret.MakePayload(source.Secret.Items, found, mode, isTrue(source.Secret.Optional))
	case source.ConfigMap != nil:
		found, err := m.configMap(ctx, v.Pod.Namespace, source.ConfigMap.Name, isTrue(source.ConfigMap.Optional))
		if err != nil {
			return nil, err
		}
		return configmap.MakePayload(source.ConfigMap.Items, found, mode, isTrue(source.ConfigMap.Optional))
	case source.DownwardAPI != nil:
		return m.downward(source.DownwardAPI.Items, v.Pod, mode)
	case source.ServiceAccountToken != nil:
		token, err := m.config.Objects.Token(ctx, v.Pod, source.ServiceAccountToken)
		if err != nil {
			return nil, err
		}
		return projection{source.ServiceAccountToken.Path: private(v.Pod, []byte(token), *mode)}, nil
	case source.ClusterTrustBundle != nil:
		anchors, err := m.config.Objects.TrustAnchors(ctx, source.ClusterTrustBundle)
		if err != nil {
			return nil, err
		}
		return projection{source.ClusterTrustBundle.Path: private(v.Pod, bytes.Clone(anchors), *mode)}, nil
	case source.PodCertificate != nil: // its gate is off in 1.36, and a kubelet without it says as little
		return nil, errors.New("podCertificate projections are not supported on this node: the feature PodCertificateRequest is off")
	default:
		return nil, nil
	}
}

// private is a file for the user that all of the pod's containers are, or else for its group, to whom own gives it.
func private(pod *corev1.Pod, data []byte, mode int32) volumeutil.FileProjection {
	user := volumeutil.FsUserFrom(pod)
	if user != nil || fsGroup(pod) != nil {
		mode = 0o600
	}
	return volumeutil.FileProjection{Data: data, Mode: mode, FsUser: user}
}
