package noderuntime

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cgroupPrefix begins the names of machines' cgroups; the number of the test's process comes after it.
const cgroupPrefix = "rowlock-test-"

// hierarchy is a mounted tree of cgroups.
type hierarchy struct {
	dir     string // where it is mounted
	fstype  string // cgroup, cgroup2
	options string // of a mount of it
}

// hierarchies are those of this machine.
func hierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []hierarchy
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		mount, super := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(super) < 3 || super[0] != "cgroup" && super[0] != "cgroup2" || mount[3] != "/" {
			continue
		}
		h := hierarchy{dir: mount[4], fstype: super[0]}
		if h.fstype == "cgroup" {
			var options []string
			for o := range strings.SplitSeq(super[2], ",") {
				switch {
				case strings.HasPrefix(o, "name="):
					options = append(options, "none", o)
				case o != "rw" && o != "ro" && o != "xattr" && o != "clone_children" && !strings.Contains(o, "="):
					options = append(options, o)
				}
			}
			h.options = strings.Join(options, ",")
		}
		all = append(all, h)
	}
	return all, lines.Err()
}

// makeCgroups makes a cgroup of the name at the top of each hierarchy, and one below it for the machine's own processes.
func makeCgroups(all []hierarchy, name string) error {
	for _, h := range all {
		for _, dir := range []string{filepath.Join(h.dir, name), filepath.Join(h.dir, name, "init")} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				if h.fstype != "cgroup" {
					break
				}
				above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
				if errors.Is(err, fs.ErrNotExist) {
					break // another controller
				}
				if err == nil { // without them no process may be in it
					err = os.WriteFile(filepath.Join(dir, file), above, 0o644)
				}
				if err != nil {
					return fmt.Errorf("%s: %w", dir, err)
				}
			}
		}
	}
	return nil
}

// removeCgroups removes a cgroup, with those below it, from each hierarchy. Processes that have been killed may take a moment.
func removeCgroups(all []hierarchy, name string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		var last error
		for _, h := range all {
			var dirs []string
			err := filepath.WalkDir(filepath.Join(h.dir, name), func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return nil // what is gone is gone
			})
			last = errors.Join(last, err)
			for i := len(dirs) - 1; i >= 0; i-- {
				if err := syscall.Rmdir(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
					last = errors.Join(last, fmt.Errorf("remove %s: %w", dirs[i], err))
				}
			}
		}
		if last == nil || time.Now().After(deadline) {
			return last
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sweep removes the cgroups of tests that did not come to their end.
func sweep(t testing.TB) {
	t.Helper()
	all, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	stale := map[string]bool{}
	for _, h := range all {
		names, err := filepath.Glob(filepath.Join(h.dir, cgroupPrefix+"*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(name), cgroupPrefix), "-")
			if n, err := strconv.Atoi(pid); err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
				stale[filepath.Base(name)] = true
			}
		}
	}
	for name := range stale {
		if err := removeCgroups(all, name); err != nil {
			t.Logf("a cgroup that an earlier test left: %v", err)
		}
	}
}
