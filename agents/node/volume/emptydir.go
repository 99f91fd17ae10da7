package volume

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
	v1helper "k8s.io/kubernetes/pkg/apis/core/v1/helper"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

const emptyDirName = "kubernetes.io/empty-dir"

// emptyDir are directories of a pod's own, on disk, in memory or in huge pages.
type emptyDir struct{ m *Manager }

func (*emptyDir) Name() string { return emptyDirName }

func (*emptyDir) Supports(v *corev1.Volume) bool { return v.EmptyDir != nil }

func (e *emptyDir) SetUp(ctx context.Context, v *Volume) (Mounted, error) {
	err := e.m.space(ctx, v.Pod, v.Directory, v.Spec.Name, v.Spec.EmptyDir)
	return Mounted{Path: v.Directory, Managed: true}, err
}

func (*emptyDir) TearDown(context.Context, types.UID, string, string) error { return nil }

// space makes an empty directory, and leaves it alone when it was made before: it may be in use.
func (m *Manager) space(ctx context.Context, pod *corev1.Pod, directory, name string, spec *corev1.EmptyDirVolumeSource) error {
	mark := m.ready(pod.UID, name)
	made := isReady(mark)
	if made {
		info, err := os.Lstat(directory)
		if made = err == nil; made && !info.IsDir() {
			return fmt.Errorf("%s is not a directory", directory)
		}
	}
	if !made { // else its mode is the pod's affair
		if err := makeDirectory(directory, 0o777); err != nil {
			return err
		}
	}
	mounted, err := isMount(directory)
	if err != nil {
		return err
	}
	switch {
	case spec.Medium == corev1.StorageMediumDefault:
	case spec.Medium == corev1.StorageMediumMemory:
		made = made && mounted
		if !mounted {
			err = m.mountTmpfs(directory, m.memory(pod, spec.SizeLimit))
		}
	case v1helper.IsHugePageMedium(spec.Medium):
		made = made && mounted
		if mounted {
			err = samePageSize(directory, pod, spec.Medium)
		} else {
			err = mountHugePages(directory, pod, spec.Medium)
		}
	default:
		err = fmt.Errorf("unknown storage medium %q", spec.Medium)
	}
	if err != nil || made {
		return err
	}
	if err := m.own(ctx, directory, fsGroup(pod), nil, false); err != nil { // upstream goes on without it too
		m.config.Log.Warn("Volume was not given to the pod's group", "pod", pod.Namespace+"/"+pod.Name, "volume", name, "error", err)
	}
	return setReady(mark)
}

// memory is the most that a directory in memory may hold: what it asks for, unless the pod, or all pods together, may have less.
func (m *Manager) memory(pod *corev1.Pod, asked *resource.Quantity) int64 {
	node := m.config.Allocatable()
	most := node.Memory().Value()
	limits := cm.ResourceConfigForPod(pod, false, cm.QuotaPeriod, false, kubeletconfig.NoneMemoryReservationPolicy)
	if limits != nil && limits.Memory != nil && *limits.Memory > 0 && *limits.Memory <= most {
		most = *limits.Memory
	}
	if asked != nil && asked.Sign() > 0 && asked.Value() <= most {
		most = asked.Value()
	}
	return most
}

// mountTmpfs keeps what is in it out of swap where the kernel can (since 6.4, and not in a user namespace).
func (m *Manager) mountTmpfs(directory string, size int64) error {
	const unknown, can, cannot = 0, 1, 2
	options := ""
	if size > 0 { // else half of the memory
		options = fmt.Sprintf("size=%d", size)
	}
	known := m.noswap.Load()
	if known != cannot {
		with := "noswap"
		if options != "" {
			with = options + ",noswap"
		}
		err := unix.Mount("tmpfs", directory, "tmpfs", 0, with)
		if err == nil {
			m.noswap.Store(can)
			return nil
		}
		if known == can || !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return &os.PathError{Op: "mount tmpfs", Path: directory, Err: err}
		}
	}
	if err := unix.Mount("tmpfs", directory, "tmpfs", 0, options); err != nil {
		return &os.PathError{Op: "mount tmpfs", Path: directory, Err: err}
	}
	if known == unknown {
		m.noswap.Store(cannot)
	}
	return nil
}

func mountHugePages(directory string, pod *corev1.Pod, medium corev1.StorageMedium) error {
	size, err := pageSize(pod, medium)
	if err != nil {
		return err
	}
	if err := unix.Mount("nodev", directory, "hugetlbfs", 0, "pagesize="+size.String()); err != nil {
		return &os.PathError{Op: "mount hugetlbfs", Path: directory, Err: err}
	}
	return nil
}

// samePageSize refuses huge pages of another size than asked for.
func samePageSize(directory string, pod *corev1.Pod, medium corev1.StorageMedium) error {
	var st unix.Statfs_t
	if err := unix.Statfs(directory, &st); err != nil {
		return err
	}
	if int64(st.Type) != unix.HUGETLBFS_MAGIC {
		return fmt.Errorf("pod %v: mounted dir %s does not hold huge pages", pod.UID, directory)
	}
	if medium == corev1.StorageMediumHugePages {
		return nil
	}
	asked, err := v1helper.HugePageSizeFromMedium(medium)
	if err != nil {
		return err
	}
	if has := resource.NewQuantity(int64(st.Bsize), resource.BinarySI); asked.Cmp(*has) != 0 {
		return fmt.Errorf("pod %v: mounted dir %s pagesize '%s' and requested medium size '%s' differ", pod.UID, directory, has.String(), asked.String())
	}
	return nil
}

// pageSize is that of the medium, which the pod must ask for, or the only one that the pod asks for.
func pageSize(pod *corev1.Pod, medium corev1.StorageMedium) (resource.Quantity, error) {
	var none, found resource.Quantity
	var named *resource.Quantity
	if medium != corev1.StorageMediumHugePages {
		size, err := v1helper.HugePageSizeFromMedium(medium)
		if err != nil {
			return none, err
		}
		named = &size
	}
	var requests []corev1.ResourceList
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		requests = append(requests, pod.Spec.Resources.Requests)
	}
	for _, containers := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range containers {
			requests = append(requests, containers[i].Resources.Requests)
		}
	}
	has := false
	for _, list := range requests {
		for name := range list {
			if !v1helper.IsHugePageResourceName(name) {
				continue
			}
			size, err := v1helper.HugePageSizeFromResourceName(name)
			if err != nil {
				return none, err
			}
			if named != nil && size.Cmp(*named) != 0 {
				continue
			}
			if has && size.Cmp(found) != 0 {
				return none, fmt.Errorf("medium: %s can't be used if container requests multiple huge page sizes", medium)
			}
			has, found = true, size
		}
	}
	if !has {
		return none, fmt.Errorf("medium %s: hugePages storage requested, but there is no resource request for huge pages", medium)
	}
	return found, nil
}
