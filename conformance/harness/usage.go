package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Usage is what processes have, by /proc: bytes of memory (resident; resident with what is shared divided; anonymous), and
// seconds of CPU.
type Usage struct {
	RSS, PSS, Anonymous float64
	CPU                 float64
}

// Max is the larger of each figure.
func (u Usage) Max(v Usage) Usage {
	return Usage{max(u.RSS, v.RSS), max(u.PSS, v.PSS), max(u.Anonymous, v.Anonymous), max(u.CPU, v.CPU)}
}

// Measure adds up what the processes and their children have.
func Measure(pids []int) (Usage, error) {
	var sum Usage
	all, err := family(pids)
	if err != nil {
		return sum, err
	}
	for _, pid := range all {
		u, err := measureOne(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // a child that has just ended
		}
		if err != nil {
			return sum, err
		}
		sum = Usage{sum.RSS + u.RSS, sum.PSS + u.PSS, sum.Anonymous + u.Anonymous, sum.CPU + u.CPU}
	}
	return sum, nil
}

func measureOne(pid int) (u Usage, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(data)) {
		for name, value := range map[string]*float64{"Rss:": &u.RSS, "Pss:": &u.PSS, "Anonymous:": &u.Anonymous} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				if _, err := fmt.Sscan(rest, value); err != nil {
					return u, err
				}
				*value *= 1024
			}
		}
	}
	stat, err := statOf(pid)
	if err != nil {
		return u, err
	}
	// Of a process with children that have ended, theirs too: a Postgres that gave up a connection has worked as well.
	for _, field := range stat[11:15] {
		var ticks float64
		if _, err := fmt.Sscan(field, &ticks); err != nil {
			return u, err
		}
		u.CPU += ticks / 100 // Linux's clock ticks for programs
	}
	return u, nil
}

// family is the processes and those that they have started.
func family(pids []int) ([]int, error) {
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, dir := range found {
		var pid, parent int
		if _, err := fmt.Sscanf(dir, "/proc/%d", &pid); err != nil {
			continue
		}
		stat, err := statOf(pid)
		if err != nil {
			continue // it has ended
		}
		if _, err := fmt.Sscan(stat[1], &parent); err != nil {
			return nil, err
		}
		children[parent] = append(children[parent], pid)
	}
	var all []int
	for rest := append([]int(nil), pids...); len(rest) > 0; rest = rest[1:] {
		all = append(all, rest[0])
		rest = append(rest, children[rest[0]]...)
	}
	return all, nil
}

// statOf is a process's stat from its state on.
func statOf(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return nil, fmt.Errorf("/proc/%d/stat: %q", pid, data)
	}
	return fields, nil
}

// HostCPU is how long the machine's cores were busy since it started: seconds of CPU. What other machines on the host took
// from it is counted too.
func HostCPU(t testing.TB) float64 {
	t.Helper()
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	var user, nice, system, idle, iowait, irq, softirq, steal float64
	if _, err := fmt.Sscanf(string(data), "cpu %g %g %g %g %g %g %g %g", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		t.Fatal(err)
	}
	return (user + nice + system + irq + softirq + steal) / 100
}
