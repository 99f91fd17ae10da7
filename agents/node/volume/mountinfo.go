package volume

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountsIn are the mount points in a directory, the directory itself among them, deepest first; one on which several mounts lie is there
// as often.
func mountsIn(directory string) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var points []string
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 6) // id, parent, device, root, mount point, options
		if len(fields) < 6 {
			return nil, fmt.Errorf("/proc/self/mountinfo: unexpected line %q", lines.Text())
		}
		if point := unescape(fields[4]); point == directory || strings.HasPrefix(point, directory+"/") {
			points = append(points, point)
		}
	}
	slices.SortStableFunc(points, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return points, lines.Err()
}

// unescape reads octal escapes, by which the kernel writes spaces, line ends and backslashes.
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

// isMount says whether something is mounted at a path, which is not followed if it is a link.
func isMount(at string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, at, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	switch {
	case err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0: // since 5.8
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	case err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM):
		return false, &os.PathError{Op: "stat", Path: at, Err: err}
	}
	if _, err := os.Lstat(at); err != nil {
		return false, err
	}
	points, err := mountsIn(at)
	return slices.Contains(points, at), err
}

// unmountAll unmounts everything in a directory. Pods with mount propagation can have mounted anything there.
func (m *Manager) unmountAll(ctx context.Context, directory string) error {
	for range 64 { // as many may lie on one another, or come while others go
		points, err := mountsIn(directory)
		if err != nil || len(points) == 0 {
			return err
		}
		for _, point := range points {
			if err := errors.Join(ctx.Err(), m.unmount(point)); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("there are still mounts in %s", directory)
}

// unmount unmounts what is at a path without links.
func (m *Manager) unmount(point string) error {
	parent, err := m.files.root(filepath.Dir(point), unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return nil // it went with one above it
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", point, err)
	}
	defer unix.Close(parent) //nolint:errcheck // opened for its path only
	at := path(parent) + "/" + filepath.Base(point)
	err = unix.Unmount(at, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) { // somebody on the node looks at it; it goes when they are done
		m.config.Log.Warn("Mount was busy and is only detached", "path", point)
		err = unix.Unmount(at, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // nothing is mounted there any more
		return fmt.Errorf("unmount %s: %w", point, err)
	}
	return nil
}
