package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// files opens what lies in directories that pods can write to. No link is followed, neither the last name of a path nor one before it, so
// what is opened lies where its path says at the moment it is opened.
type files struct {
	// openat2: the kernel checks a whole path (since 5.6). Without it names are opened one after the other.
	openat2 bool
	// resolved is for tests, which change things at the moment between looking and opening; nil otherwise.
	resolved func()
}

func hasOpenat2() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err != nil {
		return false // by the kernel, or by a filter of calls
	}
	_ = unix.Close(fd)
	return true
}

// beneath opens what lies at a path below the directory; "." is the directory.
func (f files) beneath(directory int, path string, flags int) (int, error) {
	if !filepath.IsLocal(path) {
		return -1, &os.PathError{Op: "open", Path: path, Err: unix.EXDEV}
	}
	path = filepath.Clean(path)
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	if !f.openat2 {
		return f.steps(directory, path, flags)
	}
	how := unix.OpenHow{
		Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(directory, path, &how)
		switch {
		case err == nil:
			return f.noLink(fd, path)
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN) && try < 32: // something was renamed meanwhile
		default:
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// steps does what openat2 would.
func (f files) steps(directory int, path string, flags int) (int, error) {
	names := strings.Split(path, "/")
	at := directory
	for i, name := range names {
		how := unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW
		if i == len(names)-1 {
			how = flags
		}
		next, err := unix.Openat(at, name, how, 0)
		if at != directory {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		at = next
	}
	return f.noLink(at, path)
}

// noLink refuses a link: O_PATH together with O_NOFOLLOW opens one as such.
func (files) noLink(fd int, path string) (int, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = unix.ELOOP
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// root opens an absolute path that has no links in it any more.
func (f files) root(path string, flags int) (int, error) {
	top, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(top) //nolint:errcheck // opened for its path only
	below, err := filepath.Rel("/", path)
	if err != nil {
		return -1, err
	}
	return f.beneath(top, below, flags)
}

// path names what is open, for calls that want a name.
func path(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// child opens a directory in a directory, on the same mount.
func (f files) child(directory int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW
	if f.openat2 {
		fd, err := unix.Openat2(directory, name, &unix.OpenHow{
			Flags: flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
		})
		return fd, err
	}
	fd, err := unix.Openat(directory, name, flags, 0)
	if err != nil {
		return -1, err
	}
	var in, of unix.Stat_t
	if err = errors.Join(unix.Fstat(fd, &in), unix.Fstat(directory, &of)); err == nil && in.Dev != of.Dev {
		err = unix.EXDEV
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// batch are some of the names in a directory from where it was last read; none: there are no more.
func batch(directory int, buffer []byte) ([]string, error) {
	for {
		n, err := unix.ReadDirent(directory, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return nil, err
		}
		if _, _, names := unix.ParseDirent(buffer[:n], -1, nil); len(names) > 0 {
			return names, nil
		}
	}
}

// up opens the directory above one, which must be the one that was come from: a pod may have moved what is below it.
func up(directory int, device, inode uint64) (int, error) {
	fd, err := unix.Openat(directory, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (st.Dev != device || st.Ino != inode) {
		err = errMoved
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

var errMoved = errors.New("a directory was moved while it was looked at")
