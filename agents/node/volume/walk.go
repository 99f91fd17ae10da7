package volume

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// level is a directory on the way down. However deep a pod makes its directories, one file is open, and no path is longer than a name.
type level struct {
	device, inode uint64
	name          string   // in the directory above
	todo          []string // names in it
}

func levelOf(fd int, name string) (level, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return level{device: st.Dev, inode: st.Ino, name: name}, err
}

// walk calls visit with everything below an open directory that is on the same mount, links as such. What appears or goes meanwhile may
// be missed.
func (f files) walk(ctx context.Context, top int, visit func(directory int, name string, st *unix.Stat_t) error) error {
	at, err := unix.Openat(top, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }()
	buffer := make([]byte, 16<<10)
	here, err := levelOf(at, "")
	if err != nil {
		return err
	}
	look := func(l *level) error {
		for {
			names, err := batch(at, buffer)
			if err != nil || len(names) == 0 {
				return err
			}
			for _, name := range names {
				var st unix.Stat_t
				if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
					continue // it has gone
				}
				if st.Mode&unix.S_IFMT == unix.S_IFDIR {
					l.todo = append(l.todo, name) // visited when it is known to be no mount
				} else if err := visit(at, name, &st); err != nil {
					return err
				}
			}
		}
	}
	if err := look(&here); err != nil {
		return err
	}
	way := []level{here}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := &way[len(way)-1]
		if len(last.todo) == 0 {
			way = way[:len(way)-1]
			if len(way) == 0 {
				return nil
			}
			above, err := up(at, way[len(way)-1].device, way[len(way)-1].inode)
			if err != nil {
				return err
			}
			_ = unix.Close(at)
			at = above
			continue
		}
		name := last.todo[len(last.todo)-1]
		last.todo = last.todo[:len(last.todo)-1]
		child, err := f.child(at, name)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EXDEV):
			continue // gone, another thing by now, or a mount
		case err != nil:
			return err
		}
		var st unix.Stat_t
		if err = unix.Fstat(child, &st); err == nil {
			err = visit(at, name, &st)
		}
		_ = unix.Close(at)
		at = child
		next := level{device: st.Dev, inode: st.Ino, name: name}
		if err == nil {
			err = look(&next)
		}
		if err != nil {
			return err
		}
		way = append(way, next)
	}
}

// remove removes what is called name in an open directory, with everything in it. It does not go into mounts: there it fails.
func (f files) remove(ctx context.Context, parent int, name string) error {
	down, err := f.take(parent, name)
	if err != nil || !down {
		return err
	}
	at, err := f.child(parent, name)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }()
	buffer := make([]byte, 16<<10)
	here, err := levelOf(at, name)
	if err != nil {
		return err
	}
	way := []level{here}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := &way[len(way)-1]
		if len(last.todo) == 0 { // the rest, from the start: what was taken away may have moved it
			if _, err := unix.Seek(at, 0, unix.SEEK_SET); err != nil {
				return err
			}
			if last.todo, err = batch(at, buffer); err != nil {
				return err
			}
			slices.Reverse(last.todo)
		}
		if len(last.todo) == 0 {
			name := last.name
			if way = way[:len(way)-1]; len(way) == 0 {
				return unlink(parent, name, unix.AT_REMOVEDIR)
			}
			above, err := up(at, way[len(way)-1].device, way[len(way)-1].inode)
			if err != nil {
				return err
			}
			_ = unix.Close(at)
			at = above
			if down, err := f.take(at, name); err != nil {
				return err
			} else if down {
				way[len(way)-1].todo = append(way[len(way)-1].todo, name) // somebody was faster
			}
			continue
		}
		name := last.todo[len(last.todo)-1]
		last.todo = last.todo[:len(last.todo)-1]
		down, err := f.take(at, name)
		if err != nil {
			return err
		}
		if !down {
			continue
		}
		child, err := f.child(at, name)
		if err != nil {
			return err
		}
		_ = unix.Close(at)
		at = child
		next, err := levelOf(at, name)
		if err != nil {
			return err
		}
		way = append(way, next)
	}
}

// take removes one file or empty directory; true: it is a directory that is not empty.
func (files) take(directory int, name string) (bool, error) {
	err := unlink(directory, name, 0)
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return false, err
	}
	switch e := unlink(directory, name, unix.AT_REMOVEDIR); {
	case errors.Is(e, unix.ENOTEMPTY), errors.Is(e, unix.EEXIST):
		return true, nil
	case errors.Is(e, unix.ENOTDIR):
		return false, err
	default:
		return false, e
	}
}

func unlink(directory int, name string, flags int) error {
	for {
		err := unix.Unlinkat(directory, name, flags)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOENT):
			return nil
		default:
			return err
		}
	}
}
