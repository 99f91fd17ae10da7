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

// Usage are the volumes of a pod's that hold something of its own: not those of the node's directories, and not images. It looks at
// every file, so it is to be asked for now and then.
func (m *Manager) Usage(ctx context.Context, pod types.UID) ([]Usage, error) {
	m.mu.Lock()
	s := m.have[pod]
	if s == nil || s.life.Err() != nil {
		m.mu.Unlock()
		return nil, nil
	}
	spec := s.pod.Spec.Volumes
	done := map[string]Mounted{}
	for name, d := range s.done {
		done[name] = d
	}
	m.mu.Unlock()
	var all []Usage
	var errs []error
	for i := range spec {
		d, ready := done[spec[i].Name]
		if !ready || !d.Managed {
			continue
		}
		u, err := m.usage(ctx, d.Path)
		if errors.Is(err, unix.ENOENT) {
			continue // torn down meanwhile
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		u.Volume = spec[i].Name
		if e := spec[i].EmptyDir; e != nil {
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
