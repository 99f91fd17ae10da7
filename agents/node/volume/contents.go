package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
)

// content are volumes that show files made of something in the API. Files change all at once: what a pod sees are links to a directory
// that is one link away, and that link is replaced (upstream's AtomicWriter).
type content struct {
	m        *Manager
	name     string
	medium   corev1.StorageMedium
	supports func(*corev1.Volume) bool
	files    func(ctx context.Context, v *Volume) (map[string]volumeutil.FileProjection, error)
}

func (m *Manager) contents() []Plugin {
	return []Plugin{
		&content{
			m: m, name: "kubernetes.io/configmap", files: m.configMapFiles,
			supports: func(v *corev1.Volume) bool { return v.ConfigMap != nil },
		},
		&content{
			m: m, name: "kubernetes.io/secret", files: m.secretFiles, medium: corev1.StorageMediumMemory,
			supports: func(v *corev1.Volume) bool { return v.Secret != nil },
		},
		&content{
			m: m, name: "kubernetes.io/downward-api", files: m.downwardFiles, medium: corev1.StorageMediumMemory,
			supports: func(v *corev1.Volume) bool { return v.DownwardAPI != nil },
		},
		&content{
			m: m, name: "kubernetes.io/projected", files: m.projectedFiles, medium: corev1.StorageMediumMemory,
			supports: func(v *corev1.Volume) bool { return v.Projected != nil },
		},
	}
}

func (c *content) Name() string { return c.name }

func (c *content) Supports(v *corev1.Volume) bool { return c.supports(v) }

func (c *content) TearDown(context.Context, types.UID, string, string) error { return nil }

func (c *content) SetUp(ctx context.Context, v *Volume) (Mounted, error) {
	files, err := c.files(ctx, v)
	if err != nil {
		return Mounted{}, err
	}
	// The directory, and the file that says it is ready, are those of an emptyDir of this name for the kubelet.
	if err := c.m.space(ctx, v.Pod, v.Directory, "wrapped_"+v.Spec.Name, &corev1.EmptyDirVolumeSource{Medium: c.medium}); err != nil {
		return Mounted{}, err
	}
	if err := volumeutil.MakeNestedMountpoints(v.Spec.Name, v.Directory, *v.Pod); err != nil {
		return Mounted{}, err
	}
	if err := c.m.write(ctx, v, files); err != nil {
		return Mounted{}, err
	}
	return Mounted{Path: v.Directory, ReadOnly: true, Managed: true, Changing: true}, nil
}

const dataName = "..data" // the link

func (m *Manager) write(ctx context.Context, v *Volume, files map[string]volumeutil.FileProjection) error {
	if err := m.tidy(ctx, v.Directory); err != nil {
		return err
	}
	writer, err := volumeutil.NewAtomicWriter(v.Directory, fmt.Sprintf("pod %s/%s volume %s", v.Pod.Namespace, v.Pod.Name, v.Spec.Name))
	if err != nil {
		return err
	}
	return writer.Write(files, func(string) error {
		if err := m.own(ctx, v.Directory, fsGroup(v.Pod), nil, true); err != nil {
			m.config.Log.Warn("Volume was not given to the pod's group", "pod", v.Pod.Namespace+"/"+v.Pod.Name, "volume", v.Spec.Name, "error", err)
		}
		return nil
	})
}

// tidy removes what is left of a write that a full disk or the end of an agent cut short: the writer would fail over one part of it, and
// leave the other for good.
func (m *Manager) tidy(ctx context.Context, directory string) error {
	current, err := os.Readlink(filepath.Join(directory, dataName))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool {
		return !strings.HasPrefix(e.Name(), "..") || e.Name() == dataName || e.Name() == current
	})
	if len(entries) == 0 {
		return nil
	}
	top, err := m.files.root(directory, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(top) //nolint:errcheck // only read
	for _, e := range entries {
		if err := m.files.remove(ctx, top, e.Name()); err != nil {
			return fmt.Errorf("remove %s: %w", e.Name(), err)
		}
	}
	return nil
}
