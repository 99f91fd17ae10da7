package stats

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// cgroups are where the kernel counts what groups of processes use.
type cgroups struct {
	root string
	v2   bool
}

func (g cgroups) file(controller, path, name string) string {
	if g.v2 {
		return filepath.Join(g.root, path, name)
	}
	return filepath.Join(g.root, controller, path, name)
}

// cpu is what a group has used, in nanoseconds of one CPU.
func (g cgroups) cpu(path string) (uint64, error) {
	if !g.v2 {
		return readNumber(g.file("cpuacct", path, "cpuacct.usage"))
	}
	stat, err := readPairs(g.file("", path, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	return stat["usage_usec"] * 1000, nil
}

// memory is what a group uses. The root of v2 does not count: that is the machine's.
func (g cgroups) memory(path string, now metav1.Time) (*statsapi.MemoryStats, error) {
	usage, limit, prefix := "memory.usage_in_bytes", "memory.limit_in_bytes", "total_"
	rss, inactive := "total_rss", "total_inactive_file"
	if g.v2 {
		usage, limit, prefix, rss, inactive = "memory.current", "memory.max", "", "anon", "inactive_file"
	}
	used, err := readNumber(g.file("memory", path, usage))
	if err != nil {
		return nil, err
	}
	stat, err := readPairs(g.file("memory", path, "memory.stat"))
	if err != nil {
		return nil, err
	}
	s := memoryOf(used, stat[inactive], now)
	s.RSSBytes, s.PageFaults, s.MajorPageFaults = pointer(stat[rss]), pointer(stat[prefix+"pgfault"]), pointer(stat[prefix+"pgmajfault"])
	if most, err := readNumber(g.file("memory", path, limit)); err == nil && most < math.MaxInt64-1<<20 { // else there is none
		s.AvailableBytes = pointer(most - min(most, *s.WorkingSetBytes))
	}
	return s, nil
}

func memoryOf(used, inactive uint64, now metav1.Time) *statsapi.MemoryStats {
	return &statsapi.MemoryStats{Time: now, UsageBytes: &used, WorkingSetBytes: pointer(used - min(used, inactive))}
}

func pointer(n uint64) *uint64 { return &n }

func (p *Provider) node(full bool) (*statsapi.NodeStats, error) {
	now := metav1.NewTime(p.cfg.Now())
	used, err := p.cgroups.cpu("/")
	if err != nil {
		if used, err = machineCPU(p.cfg.Proc); err != nil {
			return nil, err
		}
	}
	machine, err := readPairs(filepath.Join(p.cfg.Proc, "meminfo"))
	if err != nil {
		return nil, err
	}
	memory, err := p.cgroups.memory("/", now)
	if err != nil { // v2
		memory = memoryOf(machine["MemTotal"]-machine["MemFree"], machine["Inactive(file)"], now)
		memory.RSSBytes = pointer(machine["AnonPages"])
		if faults, err := readPairs(filepath.Join(p.cfg.Proc, "vmstat")); err == nil {
			memory.PageFaults, memory.MajorPageFaults = pointer(faults["pgfault"]), pointer(faults["pgmajfault"])
		}
	}
	total := machine["MemTotal"]
	memory.AvailableBytes = pointer(total - min(total, *memory.WorkingSetBytes))

	p.mu.Lock()
	defer p.mu.Unlock()
	node := &statsapi.NodeStats{
		NodeName: p.cfg.Node, StartTime: metav1.NewTime(p.booted),
		CPU:    &statsapi.CPUStats{Time: now, UsageCoreNanoSeconds: &used, UsageNanoCores: p.rates.of("node", now.Time, used)},
		Memory: memory,
		Swap: &statsapi.SwapStats{
			Time: now, SwapAvailableBytes: pointer(machine["SwapFree"]),
			SwapUsageBytes: pointer(machine["SwapTotal"] - min(machine["SwapTotal"], machine["SwapFree"])),
		},
	}
	if full {
		node.CPU.PSI = machinePressure(p.cfg.Proc, "cpu")
		node.Memory.PSI = machinePressure(p.cfg.Proc, "memory")
	}
	if p.cfg.Pods != "" {
		if all := p.group(statsapi.SystemContainerPods, p.cfg.Pods, now); all != nil {
			all.Memory.AvailableBytes = allocatable(all.Memory, total)
			node.SystemContainers = append(node.SystemContainers, *all)
		}
	}
	return node, nil
}

// allocatable is what is left to all pods together: of their own limit, or else of the machine.
func allocatable(m *statsapi.MemoryStats, total uint64) *uint64 {
	if m.AvailableBytes != nil {
		return m.AvailableBytes
	}
	return pointer(total - min(total, *m.WorkingSetBytes))
}

// group is a cgroup that is no container; nil: it is not there.
func (p *Provider) group(name, path string, now metav1.Time) *statsapi.ContainerStats {
	used, err := p.cgroups.cpu(path)
	if err != nil {
		return nil
	}
	memory, err := p.cgroups.memory(path, now)
	if err != nil {
		return nil
	}
	return &statsapi.ContainerStats{
		Name: name, StartTime: metav1.NewTime(p.started), Memory: memory,
		CPU: &statsapi.CPUStats{Time: now, UsageCoreNanoSeconds: &used, UsageNanoCores: p.rates.of("group "+path, now.Time, used)},
	}
}

// machineCPU is what the machine's CPUs have worked since it started.
func machineCPU(proc string) (uint64, error) {
	data, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(strings.SplitN(string(data), "\n", 2)[0])
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("%s/stat begins with no figures of CPUs", proc)
	}
	var ticks uint64
	for i, field := range fields[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	return ticks * uint64(time.Second/100), nil
}

func bootTime(proc string, otherwise time.Time) time.Time {
	stat, err := readPairs(filepath.Join(proc, "stat"))
	if err != nil || stat["btime"] == 0 {
		return otherwise
	}
	return time.Unix(int64(stat["btime"]), 0)
}

// rlimit counts the machine's tasks.
func rlimit(proc string, now metav1.Time) *statsapi.RlimitStats {
	s := &statsapi.RlimitStats{Time: now}
	for _, name := range []string{"pid_max", "threads-max"} {
		if n, err := readNumber(filepath.Join(proc, "sys/kernel", name)); err == nil && (s.MaxPID == nil || int64(n) < *s.MaxPID) {
			most := int64(n)
			s.MaxPID = &most
		}
	}
	if data, err := os.ReadFile(filepath.Join(proc, "loadavg")); err == nil {
		if fields := strings.Fields(string(data)); len(fields) > 3 {
			_, all, _ := strings.Cut(fields[3], "/")
			if n, err := strconv.ParseInt(all, 10, 64); err == nil {
				s.NumOfRunningProcesses = &n
			}
		}
	}
	return s
}

// network counts what goes over the machine's own interfaces.
func network(proc string, now metav1.Time) *statsapi.NetworkStats {
	data, err := os.ReadFile(filepath.Join(proc, "net/dev"))
	if err != nil {
		return nil
	}
	s := &statsapi.NetworkStats{Time: now}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		name = strings.TrimSpace(name)
		if !ok || len(fields) < 11 || name == "lo" || strings.HasPrefix(name, "veth") {
			continue
		}
		count := func(i int) *uint64 {
			n, err := strconv.ParseUint(fields[i], 10, 64)
			if err != nil {
				return nil
			}
			return &n
		}
		i := statsapi.InterfaceStats{Name: name, RxBytes: count(0), RxErrors: count(2), TxBytes: count(8), TxErrors: count(10)}
		s.Interfaces = append(s.Interfaces, i)
		if name == "eth0" || s.Name == "" && name == defaultInterface(proc) {
			s.InterfaceStats = i
		}
	}
	return s
}

// defaultInterface is where packets go that are for nobody near.
func defaultInterface(proc string) string {
	data, err := os.ReadFile(filepath.Join(proc, "net/route"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 7 && fields[1] == "00000000" && fields[7] == "00000000" {
			return fields[0]
		}
	}
	return ""
}

func pressureOfIO(proc string, now metav1.Time) *statsapi.IOStats {
	if psi := machinePressure(proc, "io"); psi != nil {
		return &statsapi.IOStats{Time: now, PSI: psi}
	}
	return nil
}

// machinePressure is how long tasks waited for something; nil: the kernel does not count it.
func machinePressure(proc, what string) *statsapi.PSIStats {
	data, err := os.ReadFile(filepath.Join(proc, "pressure", what))
	if err != nil {
		return nil
	}
	s := &statsapi.PSIStats{}
	for line := range strings.Lines(string(data)) {
		var d statsapi.PSIData
		kind, rest, _ := strings.Cut(line, " ")
		if _, err := fmt.Sscanf(rest, "avg10=%f avg60=%f avg300=%f total=%d", &d.Avg10, &d.Avg60, &d.Avg300, &d.Total); err != nil {
			return nil
		}
		switch kind {
		case "some":
			s.Some = d
		case "full":
			s.Full = d
		}
	}
	return s
}

func readNumber(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	text := string(bytes.TrimSpace(data))
	if text == "max" {
		return math.MaxUint64, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// readPairs reads lines of a name and a number; what follows is a unit, which is thousands of bytes where it is kB.
func readPairs(path string) (map[string]uint64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	pairs := map[string]uint64{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20) // a line of /proc/stat has a number for each interrupt
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			continue
		}
		if len(fields) > 2 && fields[2] == "kB" {
			n *= 1024
		}
		pairs[strings.TrimSuffix(fields[0], ":")] = n
	}
	return pairs, lines.Err()
}
