package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
)

// Usage is what a volume holds, and what there is room for.
type Usage struct {
	Volume string
	// Memory: it lies in the pod's memory, not on the node's disk.
	Memory bool
	// Limit is what an emptyDir may hold by its spec; nil: what there is.
	Limit *resource.Quantity

	Bytes, Inodes uint64 // used
	// Of the file system that it lies on.
	CapacityBytes, AvailableBytes, CapacityInodes, FreeInodes uint64
}

// Place is where a volume that holds something of its own lies.
type Place struct {
	Name, Path string
	// Local: what is in it takes the place of other pods on the node's disk, and counts as the pod's use of it.
	Local bool

	spec *corev1.Volume
}

// Places are those of a pod's volumes that are ready: not the node's directories, and not images.
func (m *Manager) Places(pod types.UID) []Place {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.have[pod]
	if s == nil || s.life.Err() != nil {
		return nil
	}
	var places []Place
	for i := range s.pod.Spec.Volumes {
		v := &s.pod.Spec.Volumes[i]
		if done := s.done[v.Name]; done.Managed {
			places = append(places, Place{Name: v.Name, Path: done.Path, Local: volumeutil.IsLocalEphemeralVolume(*v), spec: v})
		}
	}
	return places
}

// Usage says how much is in a pod's Places. It looks at every file, so it is to be asked for now and then; whatever the pod made of its
// directories, all of it is counted.
func (m *Manager) Usage(ctx context.Context, pod types.UID) ([]Usage, error) {
	var all []Usage
	var errs []error
	for _, place := range m.Places(pod) {
		u, err := m.usage(ctx, place.Path)
		if errors.Is(err, unix.ENOENT) {
			continue // torn down meanwhile
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		u.Volume = place.Name
		if e := place.spec.EmptyDir; e != nil {
			u.Limit = e.SizeLimit
			u.Memory = u.Memory || e.Medium != corev1.StorageMediumDefault
		}
		all = append(all, u)
	}
	return all, errors.Join(errs...)
}

func (m *Manager) usage(ctx context.Context, directory string) (u Usage, err error) {
	top, err := m.files.root(directory, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return u, err
	}
	defer unix.Close(top) //nolint:errcheck // only read
	var system unix.Statfs_t
	if err := unix.Fstatfs(top, &system); err != nil {
		return u, &os.PathError{Op: "statfs", Path: filepath.Base(directory), Err: err}
	}
	size := uint64(system.Bsize)
	u.Memory = system.Type == unix.TMPFS_MAGIC
	u.CapacityBytes, u.AvailableBytes, u.CapacityInodes, u.FreeInodes = system.Blocks*size, system.Bavail*size, system.Files, system.Ffree
	type file struct{ device, inode uint64 }
	linked := map[file]bool{} // counted once
	count := func(st *unix.Stat_t) {
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			id := file{st.Dev, st.Ino}
			if linked[id] {
				return
			}
			linked[id] = true
		}
		u.Bytes += uint64(st.Blocks) * 512
		u.Inodes++
	}
	var st unix.Stat_t
	if err := unix.Fstat(top, &st); err != nil {
		return u, err
	}
	count(&st)
	err = m.files.walk(ctx, top, func(_ int, _ string, of *unix.Stat_t) error {
		if of.Dev == st.Dev {
			count(of)
		}
		return nil
	})
	return u, err
}
