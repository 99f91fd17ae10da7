package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// subPath is a part of a volume that a container gets alone. Who can write to the volume can make links of its parts at any moment, also of
// the one that is being mounted: so links are followed once, what they lead to is looked at, and then it is opened by its path without
// links. What is open is mounted in a directory of the node's, and that mount is what the runtime gets.
type subPath struct {
	volume, container string
	index             int    // of the container's mounts
	base, below       string // the volume, and the part of it
}

// target is where the part is mounted.
func (p *subPath) target(pod string) string {
	return filepath.Join(pod, subPathsName, p.volume, p.container, strconv.Itoa(p.index))
}

var errOutside = errors.New("it is outside the volume")

// within returns the way from base to path, both without links.
func within(base, path string) (string, error) {
	below, err := filepath.Rel(base, path)
	if err != nil {
		return "", err
	}
	if !filepath.IsLocal(below) {
		return "", errOutside
	}
	return below, nil
}

// create makes the directories of a part that is not there yet. They get the volume's mode, and so its group by the bit in it.
func (f files) create(base, below string) error {
	info, err := os.Stat(base)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(base)
	if err != nil {
		return err
	}
	names := strings.Split(filepath.Clean(below), "/")
	there := real // how far it is there, following links as the pod would
	for len(names) > 0 {
		next := filepath.Join(there, names[0])
		if _, err := os.Stat(next); errors.Is(err, unix.ENOENT) {
			break
		} else if err != nil {
			return err
		}
		if there, err = filepath.EvalSymlinks(next); err != nil {
			return err
		}
		names = names[1:]
	}
	down, err := within(real, there)
	if err != nil {
		return err
	}
	top, err := f.root(real, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	at, err := f.beneath(top, down, unix.O_RDONLY|unix.O_DIRECTORY)
	_ = unix.Close(top)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }()
	mode := bits(info.Mode())
	for _, name := range names {
		made := unix.Mkdirat(at, name, mode)
		if made != nil && !errors.Is(made, unix.EEXIST) { // another container may have been first
			return made
		}
		next, err := f.beneath(at, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		_ = unix.Close(at)
		at = next
		if made == nil { // the process may have a umask, and mkdir does not take all bits
			if err := unix.Fchmod(at, mode); err != nil {
				return err
			}
		}
	}
	return nil
}

// open opens the part, without links.
func (f files) open(base, below string) (int, error) {
	real, err := filepath.EvalSymlinks(base)
	if err != nil {
		return -1, err
	}
	part, err := filepath.EvalSymlinks(filepath.Join(base, below))
	if err != nil {
		return -1, err
	}
	down, err := within(real, part)
	if err != nil {
		return -1, err
	}
	top, err := f.root(real, unix.O_PATH)
	if err != nil {
		return -1, err
	}
	defer unix.Close(top) //nolint:errcheck // opened for its path only
	if hook := f.resolved; hook != nil {
		hook()
	}
	fd, err := f.beneath(top, down, unix.O_PATH|unix.O_DIRECTORY) // has what is mounted there on demand mounted
	if errors.Is(err, unix.ENOTDIR) {
		fd, err = f.beneath(top, down, unix.O_PATH)
	}
	return fd, err
}

// bind mounts a part of a volume where the runtime can take it from, if it is not mounted there yet, and returns where.
func (m *Manager) bind(ctx context.Context, pod string, p *subPath) (string, error) {
	part, err := m.files.open(p.base, p.below)
	if err != nil {
		return "", err
	}
	defer unix.Close(part) //nolint:errcheck // opened for its path only
	var st unix.Stat_t
	if err := unix.Fstat(part, &st); err != nil {
		return "", err
	}
	target := p.target(pod)
	mounted, err := isMount(target)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return "", err
	}
	if mounted {
		var is unix.Stat_t
		if err := unix.Lstat(target, &is); err == nil && is.Dev == st.Dev && is.Ino == st.Ino {
			return target, nil
		}
	}
	if err == nil { // another part by now, or nothing
		if err := m.clear(ctx, filepath.Dir(target), filepath.Base(target)); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(target, 0o750)
	} else { // anything can be mounted on a file, but a directory
		err = os.WriteFile(target, nil, 0o640)
	}
	if err != nil {
		return "", err
	}
	if err := unix.Mount(path(part), target, "", unix.MS_BIND, ""); err != nil {
		_ = os.Remove(target)
		return "", fmt.Errorf("mount: %w", err)
	}
	return target, nil
}
