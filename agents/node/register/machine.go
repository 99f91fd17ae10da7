package register

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// machine is where facts are read from.
type machine struct {
	root    string // of the file system
	network *network
}

// network is how a machine knows its addresses.
type network struct {
	lookup  func(ctx context.Context, host string) ([]net.IP, error)
	own     func() ([]net.Addr, error)
	byRoute func(family net.IP) (net.IP, error)
}

// facts are what does not change while a machine runs.
type facts struct {
	cpus                          int
	memory, swap                  int64 // bytes
	machineID, systemUUID, bootID string
	kernel, osImage               string
}

func (m machine) facts() (facts, error) {
	f := facts{
		cpus: m.cpus(), machineID: m.first("etc/machine-id", "var/lib/dbus/machine-id"), bootID: m.first("proc/sys/kernel/random/boot_id"),
		kernel: m.first("proc/sys/kernel/osrelease"), osImage: m.osImage(),
	}
	f.systemUUID = m.first("sys/class/dmi/id/product_uuid", "proc/device-tree/system-id", "proc/device-tree/vm,uuid", "etc/machine-id")
	var err error
	if f.memory, f.swap, err = m.meminfo(); err != nil {
		return f, err
	}
	return f, nil
}

func (m machine) path(name string) string { return filepath.Join(m.root, name) }

// first is the content of the first of the files that says anything.
func (m machine) first(names ...string) string {
	for _, name := range names {
		data, err := os.ReadFile(m.path(name))
		if text := strings.Trim(string(data), " \t\n\x00"); err == nil && text != "" {
			return text
		}
	}
	return ""
}

// cpus is how many are online. What this process may use does not matter: pods may use all.
func (m machine) cpus() int {
	n := 0
	for part := range strings.SplitSeq(m.first("sys/devices/system/cpu/online"), ",") {
		low, high, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(low)
		if err != nil {
			return runtime.NumCPU()
		}
		to := from
		if isRange {
			if to, err = strconv.Atoi(high); err != nil || to < from {
				return runtime.NumCPU()
			}
		}
		n += to - from + 1
	}
	return n
}

func (m machine) meminfo() (memory, swap int64, err error) {
	data, err := os.ReadFile(m.path("proc/meminfo"))
	if err != nil {
		return 0, 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(rest)
		if len(fields) != 2 || fields[1] != "kB" || name != "MemTotal" && name != "SwapTotal" {
			continue
		}
		kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil || kilobytes > math.MaxInt64>>10 {
			return 0, 0, fmt.Errorf("/proc/meminfo: %s", lines.Text())
		}
		if name == "MemTotal" {
			memory = kilobytes << 10
		} else {
			swap = kilobytes << 10
		}
	}
	if memory == 0 {
		return 0, 0, errors.New("/proc/meminfo does not tell how much memory there is")
	}
	return memory, swap, nil
}

// osImage is how the system calls itself.
func (m machine) osImage() string {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		for line := range strings.Lines(m.first(name)) {
			if value, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				return strings.Trim(strings.TrimSpace(value), `"'`)
			}
		}
	}
	return "Linux"
}

// hugePages are the bytes that are set aside for each size. They may be changed while the machine runs.
func (m machine) hugePages() map[corev1.ResourceName]int64 {
	entries, err := os.ReadDir(m.path("sys/kernel/mm/hugepages"))
	if err != nil {
		return nil
	}
	pages := map[corev1.ResourceName]int64{}
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), "hugepages-")
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(text, "kB"), 10, 64)
		if !ok || err != nil {
			continue
		}
		number, err := strconv.ParseInt(m.first("sys/kernel/mm/hugepages/"+e.Name()+"/nr_hugepages"), 10, 64)
		if err != nil {
			continue
		}
		size := resource.NewQuantity(kilobytes<<10, resource.BinarySI)
		pages[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size.String())] = number * kilobytes << 10
	}
	return pages
}

// disk is the size of the file system that a directory is in.
func (m machine) disk(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Blocks) * int64(s.Bsize), nil //nolint:gosec,unconvert // file systems are not that large; the types differ by platform
}
