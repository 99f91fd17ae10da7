package controllers

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// files are contents that upstream reads by path, and that must not be on a disk: they are in memory, under paths that
// only this process can open.
type files map[string]*os.File

func secretFiles(contents map[string][]byte) (files, error) {
	all := files{}
	for name, content := range contents {
		if len(content) == 0 {
			continue
		}
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			all.close()
			return nil, fmt.Errorf("memory file %s: %w", name, err)
		}
		f := os.NewFile(uintptr(fd), name)
		all[name] = f
		if _, err := f.Write(content); err != nil {
			all.close()
			return nil, fmt.Errorf("memory file %s: %w", name, err)
		}
	}
	return all, nil
}

// path is empty for what has no content.
func (f files) path(name string) string {
	if f[name] == nil {
		return ""
	}
	return fmt.Sprintf("/proc/self/fd/%d", f[name].Fd())
}

func (f files) close() {
	for _, file := range f {
		_ = file.Close()
	}
}
