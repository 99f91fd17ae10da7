package volume

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// own gives a directory, and all that is in it, to a pod's fsGroup: the group, what its members need, and the bit by which new files get
// the group too. nil: there is no group, and nothing is done. With the policy OnRootMismatch nothing is done either when the directory is
// as it is to be, for it is done last.
func (m *Manager) own(ctx context.Context, directory string, group *int64, policy *corev1.PodFSGroupChangePolicy, readOnly bool) error {
	if group == nil {
		return nil
	}
	top, err := m.files.root(directory, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("open the volume: %w", err)
	}
	defer unix.Close(top) //nolint:errcheck // only read
	var st unix.Stat_t
	if err := unix.Fstat(top, &st); err != nil {
		return fmt.Errorf("look at the volume: %w", err)
	}
	add := uint32(0o660)
	if readOnly {
		add = 0o440
	}
	const enter = 0o110 | unix.S_ISGID
	if policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch && int64(st.Gid) == *group && st.Mode&(add|enter) == add|enter {
		return nil
	}
	err = m.files.walk(ctx, top, func(directory int, name string, st *unix.Stat_t) error {
		fd, err := unix.Openat(directory, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return ignoreGone(err)
		}
		defer unix.Close(fd) //nolint:errcheck // opened for its path only
		if err := unix.Fstat(fd, st); err != nil {
			return err
		}
		if err := unix.Fchownat(fd, "", -1, int(*group), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
		switch mode := st.Mode & 0o7777; st.Mode & unix.S_IFMT {
		case unix.S_IFLNK: // its mode says nothing
			return nil
		case unix.S_IFDIR:
			return unix.Chmod(path(fd), mode|add|enter)
		default:
			return unix.Chmod(path(fd), mode|add)
		}
	})
	if err == nil {
		err = unix.Fchown(top, -1, int(*group))
	}
	if err == nil {
		err = unix.Fchmod(top, st.Mode&0o7777|add|enter)
	}
	if err != nil {
		return fmt.Errorf("give the volume to the group %d: %w", *group, err)
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// fsGroup is nil when the pod has none.
func fsGroup(pod *corev1.Pod) *int64 {
	if sc := pod.Spec.SecurityContext; sc != nil {
		return sc.FSGroup
	}
	return nil
}

// bits are a mode as the kernel writes it.
func bits(mode os.FileMode) uint32 {
	out := uint32(mode.Perm())
	for bit, as := range map[os.FileMode]uint32{os.ModeSetuid: unix.S_ISUID, os.ModeSetgid: unix.S_ISGID, os.ModeSticky: unix.S_ISVTX} {
		if mode&bit != 0 {
			out |= as
		}
	}
	return out
}
