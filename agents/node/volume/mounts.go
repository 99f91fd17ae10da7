package volume

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/volume/validation"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// Mounts are those of a container, from volumes that Setup has made ready. envs are the container's, for subPathExpr. Errors are of type
// *podstatus.Waiting.
func (m *Manager) Mounts(ctx context.Context, pod *corev1.Pod, container *corev1.Container, envs []kubecontainer.EnvVar) ([]*runtimeapi.Mount, error) {
	top, err := m.podDirectory(pod.UID)
	if err == nil {
		err = element("container", container.Name)
	}
	if err != nil {
		return nil, waiting(err)
	}
	m.mu.Lock()
	s := m.have[pod.UID]
	m.mu.Unlock()
	if s == nil {
		if len(container.VolumeMounts) == 0 {
			return nil, nil
		}
		return nil, waiting(missing(container.VolumeMounts[0].Name, container.Name))
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, waiting(err)
	}
	defer end()
	mounts := make([]*runtimeapi.Mount, 0, len(container.VolumeMounts))
	for i := range container.VolumeMounts {
		if s.life.Err() != nil {
			return nil, waiting(errGone)
		}
		mount, err := m.mount(ctx, s, pod, top, container, i, envs)
		if err != nil {
			return nil, waiting(err)
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

func missing(volume, container string) error {
	return fmt.Errorf("cannot find volume %q to mount into container %q", volume, container)
}

// waiting leaves what an image is waited for as it is.
func waiting(err error) error {
	var already *podstatus.Waiting
	if errors.As(err, &already) {
		return already
	}
	return &podstatus.Waiting{Reason: "CreateContainerConfigError", Message: err.Error()}
}

func (m *Manager) mount(
	ctx context.Context, s *state, pod *corev1.Pod, top string, container *corev1.Container, index int, envs []kubecontainer.EnvVar,
) (*runtimeapi.Mount, error) {
	spec := &container.VolumeMounts[index]
	v := volumeOf(pod, spec.Name)
	m.mu.Lock()
	done, ready := s.done[spec.Name]
	m.mu.Unlock()
	if v == nil || !ready {
		return nil, missing(spec.Name, container.Name)
	}
	below := spec.SubPath
	if spec.SubPathExpr != "" {
		var err error
		if below, err = kubecontainer.ExpandContainerVolumeMounts(*spec, envs); err != nil {
			return nil, err
		}
	}
	if below != "" {
		if absolute(below) == below {
			return nil, fmt.Errorf("error SubPath `%s` must not be an absolute path", below)
		}
		if err := validation.ValidatePathNoBacksteps(below); err != nil {
			return nil, fmt.Errorf("unable to provision SubPath `%s`: %w", below, err)
		}
	}
	mount := &runtimeapi.Mount{
		ContainerPath: absolute(spec.MountPath), HostPath: done.Path, Readonly: spec.ReadOnly || done.ReadOnly,
		SelinuxRelabel: done.Managed && m.config.SELinux,
	}
	var err error
	if done.Path == "" {
		mount.ImageSubPath = below
		if mount.Image, err = m.config.Images.ImageVolume(ctx, pod, v); err != nil {
			return nil, err
		}
	} else if below != "" {
		p := &subPath{volume: spec.Name, container: container.Name, index: index, base: done.Path, below: below}
		if mount.HostPath, err = m.part(ctx, pod, top, p); err != nil {
			return nil, err
		}
	}
	if mount.Propagation, err = propagation(spec.MountPropagation); err != nil {
		return nil, err
	}
	if mount.RecursiveReadOnly, err = m.recursive(pod, spec); err != nil {
		return nil, fmt.Errorf("failed to resolve recursive read-only mode: %w", err)
	}
	return mount, nil
}

func volumeOf(pod *corev1.Pod, name string) *corev1.Volume {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return &pod.Spec.Volumes[i]
		}
	}
	return nil
}

// part makes a part of a volume, if it is not there, and mounts it. What exactly went wrong is not said to the pod's owner, who could find
// out by it what is on the node.
func (m *Manager) part(ctx context.Context, pod *corev1.Pod, top string, p *subPath) (string, error) {
	_, err := os.Stat(p.base + "/" + p.below)
	if errors.Is(err, unix.ENOENT) {
		if err := m.files.create(p.base, p.below); err != nil {
			m.config.Log.Warn("Sub-path was not made", "pod", pod.Namespace+"/"+pod.Name, "container", p.container, "volume", p.volume, "error", err)
			return "", fmt.Errorf("failed to create subPath directory for volumeMount %q of container %q", p.volume, p.container)
		}
	}
	at, err := m.bind(ctx, top, p)
	if err != nil {
		m.config.Log.Warn("Sub-path was not mounted", "pod", pod.Namespace+"/"+pod.Name, "container", p.container, "volume", p.volume, "error", err)
		return "", fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q", p.volume, p.container)
	}
	return at, nil
}

func propagation(mode *corev1.MountPropagationMode) (runtimeapi.MountPropagation, error) {
	switch {
	case mode == nil || *mode == corev1.MountPropagationNone:
		return runtimeapi.MountPropagation_PROPAGATION_PRIVATE, nil
	case *mode == corev1.MountPropagationHostToContainer:
		return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, nil
	case *mode == corev1.MountPropagationBidirectional:
		return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL, nil
	default:
		return 0, fmt.Errorf("invalid MountPropagation mode: %q", *mode)
	}
}

// recursive says whether mounts below a read-only one are to be read-only too.
func (m *Manager) recursive(pod *corev1.Pod, spec *corev1.VolumeMount) (bool, error) {
	mode := spec.RecursiveReadOnly
	switch {
	case mode == nil || *mode == corev1.RecursiveReadOnlyDisabled:
		return false, nil
	case !spec.ReadOnly:
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not read-only", spec.Name)
	case spec.MountPropagation != nil && *spec.MountPropagation != corev1.MountPropagationNone:
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not compatible with propagation %q", spec.Name, *spec.MountPropagation)
	}
	can := m.config.RecursiveReadOnly(pod)
	switch *mode {
	case corev1.RecursiveReadOnlyIfPossible:
		return can, nil
	case corev1.RecursiveReadOnlyEnabled:
		if !can {
			return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not supported by the runtime", spec.Name)
		}
		return true, nil
	default:
		return false, fmt.Errorf("unknown recursive read-only mode %q", *mode)
	}
}
