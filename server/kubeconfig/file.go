package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// lockPatience is how long another program may hold the lock. kubectl holds it for milliseconds.
const lockPatience = 5 * time.Second

// lock keeps kubectl, and other servers that start, from writing the same file: the way kubectl does it, by a file that
// must not be there yet. A symbolic link and what it points to are both locked, as both names may be used.
func lock(ctx context.Context, paths ...string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	var held []string
	unlock = func() {
		for _, path := range held {
			_ = os.Remove(path) // if it is gone, somebody thought it was left behind
		}
	}
	for i, path := range paths {
		if i > 0 && path == paths[i-1] {
			continue
		}
		name := path + ".lock"
		if err := lockOne(ctx, name); err != nil {
			unlock()
			return nil, err
		}
		held = append(held, name)
	}
	return unlock, nil
}

func lockOne(ctx context.Context, name string) error {
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			return f.Close()
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("kubeconfig: lock: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: remove %s if no kubectl is running: %w", ErrLocked, name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// resolve follows symbolic links, to a file that need not be there.
func resolve(path string) (string, error) {
	for range 40 { // as many as the kernel follows
		link, err := os.Readlink(path)
		if err != nil {
			return path, nil // not a link, or not there
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(path), link)
		}
		path = link
	}
	return "", errors.New("too many levels of symbolic links")
}

// replace makes data the content of a file, whole and on disk, readable by its owner only. The owner stays, so that a
// server that root starts does not take the file away from its user.
func replace(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(data)
	if old, statErr := os.Stat(path); err == nil && statErr == nil {
		err = keepOwner(tmp, old)
	}
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	// The file is written; when its name does not reach the disk before a power cut, the old one is still there.
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}
