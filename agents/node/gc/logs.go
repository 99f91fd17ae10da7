package gc

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// LogPolicy is how much of containers' output is kept.
type LogPolicy struct {
	// MaxSize is how long a log becomes before it is rotated, in bytes; negative: logs are not rotated.
	MaxSize int64
	// MaxFiles is how many files there are of one container's, the one that is written included.
	MaxFiles int
	// Every is how often logs are looked at.
	Every time.Duration
}

func (p LogPolicy) check() error {
	if p.MaxSize >= 0 && p.MaxFiles <= 1 {
		return fmt.Errorf("invalid MaxFiles %d, must be > 1", p.MaxFiles)
	}
	if p.MaxSize >= 0 && p.Every <= 0 {
		return fmt.Errorf("invalid period %v of looking at logs, must be > 0", p.Every)
	}
	return nil
}

// What ends the names of files: log.20060102-150405, the same with .gz, and .tmp while one is compressed.
const (
	stamp      = "20060102-150405"
	compressed = ".gz"
	temporary  = ".tmp"
)

// RotateLogs rotates logs of containers that run and have written enough. Where they are is known: the runtime is asked for nothing else
// than to open them anew.
func (c *Collector) RotateLogs(ctx context.Context) {
	for _, report := range c.Reports() {
		for _, one := range report.Containers {
			if one.State != runtimeapi.ContainerState_CONTAINER_RUNNING || one.LogPath == "" || ctx.Err() != nil {
				continue
			}
			if err := c.rotateWhenLong(ctx, one.Id, one.LogPath); err != nil {
				c.Log.Warn("A log could not be rotated", "container", one.Id, "path", one.LogPath, "error", err)
			}
		}
	}
}

func (c *Collector) rotateWhenLong(ctx context.Context, id, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // somebody has removed it, or rotation was cut off
		if c.ended(ctx, id) {
			return nil
		}
		return c.Runtime.ReopenContainerLog(ctx, id)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("it is %s, no file", info.Mode())
	case info.Size() < c.Logs.MaxSize:
		return nil
	}
	files, err := rotated(path)
	if err != nil {
		return err
	}
	if files, err = cleaned(files); err != nil {
		return err
	}
	// There will be the one that is written and the one that is rotated now, which stays as it is until the next time: who reads it goes on.
	for over := len(files) - max(c.Logs.MaxFiles-2, 0); over > 0; over-- {
		if err := os.Remove(files[0]); err != nil {
			return err
		}
		files = files[1:]
	}
	for _, file := range files {
		if strings.HasSuffix(file, compressed) {
			continue
		}
		if err := compress(ctx, file); err != nil {
			return fmt.Errorf("compress %s: %w", file, err)
		}
	}
	to := path + "." + time.Now().Format(stamp)
	if _, err := os.Lstat(to); err == nil { // within a second: the next time is soon enough
		return nil
	}
	if err := os.Rename(path, to); err != nil {
		return err
	}
	if err := c.Runtime.ReopenContainerLog(ctx, id); err != nil {
		return errors.Join(fmt.Errorf("reopen: %w", err), os.Rename(to, path))
	}
	return nil
}

// ended tells whether a container no longer runs, of which it is only known that it did.
func (c *Collector) ended(ctx context.Context, id string) bool {
	resp, err := c.Runtime.ContainerStatus(ctx, id, false)
	return err == nil && resp.GetStatus().GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING
}

// rotated are files that were rotated of a log, the oldest first, and what is left of attempts to compress them.
func rotated(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path)) // sorted by name, and so by time
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+".") && e.Type().IsRegular() {
			files = append(files, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return files, nil
}

// cleaned removes files that are half compressed, and those that are there compressed too, and returns the others.
func cleaned(files []string) ([]string, error) {
	var kept []string
	for _, file := range files {
		if !strings.HasSuffix(file, temporary) && (strings.HasSuffix(file, compressed) || !slices.Contains(files, file+compressed)) {
			kept = append(kept, file)
			continue
		}
		if err := os.Remove(file); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// compress replaces a file by a compressed one.
func compress(ctx context.Context, path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // it was only read
	info, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := os.OpenFile(path+temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, to.Close())
		if err == nil {
			err = os.Rename(path+temporary, path+compressed)
		}
		if err == nil {
			err = os.Remove(path)
		} else {
			_ = os.Remove(path + temporary) // or the next time
		}
	}()
	w := gzip.NewWriter(to)
	if _, err := io.Copy(w, reader{ctx, from}); err != nil {
		return err
	}
	return w.Close()
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
