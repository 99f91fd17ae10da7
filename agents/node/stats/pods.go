package stats

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// present is what the runtime has.
type present struct {
	sandboxes  map[string]*runtimeapi.PodSandbox // the newest of each pod that is ready
	containers map[string]*runtimeapi.Container  // the running, or else newest, of each name
}

func (p *Provider) present(ctx context.Context) (*present, error) {
	sandboxes, err := p.cfg.Runtime.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{
		State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
	})
	if err != nil {
		return nil, fmt.Errorf("failed to list all pod sandboxes: %w", err)
	}
	containers, err := p.cfg.Runtime.ListContainers(ctx, &runtimeapi.ContainerFilter{})
	if err != nil {
		return nil, fmt.Errorf("failed to list all containers: %w", err)
	}
	here := &present{sandboxes: map[string]*runtimeapi.PodSandbox{}, containers: map[string]*runtimeapi.Container{}}
	newest := map[string]*runtimeapi.PodSandbox{}
	for _, s := range sandboxes {
		if last := newest[s.GetMetadata().GetUid()]; last == nil || last.CreatedAt < s.CreatedAt {
			newest[s.GetMetadata().GetUid()] = s
		}
	}
	for _, s := range newest {
		here.sandboxes[s.Id] = s
	}
	runs := func(c *runtimeapi.Container) bool { return c.State == runtimeapi.ContainerState_CONTAINER_RUNNING }
	type named struct{ sandbox, name string }
	chosen := map[named]*runtimeapi.Container{}
	for _, c := range containers {
		key := named{c.PodSandboxId, c.GetMetadata().GetName()}
		if last := chosen[key]; last == nil || runs(c) && !runs(last) || runs(c) == runs(last) && last.CreatedAt < c.CreatedAt {
			chosen[key] = c
		}
	}
	for _, c := range chosen {
		here.containers[c.Id] = c
	}
	return here, nil
}

// pods are those of which the runtime measures something.
func (p *Provider) pods(ctx context.Context, full bool) ([]statsapi.PodStats, error) {
	here, err := p.present(ctx)
	if err != nil {
		return nil, err
	}
	sandboxes, err := p.cfg.Runtime.ListPodSandboxStats(ctx, &runtimeapi.PodSandboxStatsFilter{})
	if err != nil { // the runtime is older than that, or cannot say it of one of its pods
		if sandboxes, err = p.byContainers(ctx, here, err); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pods := make([]statsapi.PodStats, 0, len(here.sandboxes))
	for _, s := range sandboxes {
		sandbox := here.sandboxes[s.GetAttributes().GetId()]
		if sandbox == nil {
			continue
		}
		pods = append(pods, p.pod(sandbox, s.GetLinux(), here, full))
	}
	p.rates.forget(p.cfg.Now())
	return pods, nil
}

// byContainers puts containers' figures where pods' would be.
func (p *Provider) byContainers(ctx context.Context, here *present, because error) ([]*runtimeapi.PodSandboxStats, error) {
	containers, err := p.cfg.Runtime.ListContainerStats(ctx, &runtimeapi.ContainerStatsFilter{})
	if err != nil {
		return nil, fmt.Errorf("failed to list all container stats: %w; of pods: %w", err, because)
	}
	of := map[string]*runtimeapi.LinuxPodSandboxStats{}
	var pods []*runtimeapi.PodSandboxStats
	for _, c := range containers {
		known := here.containers[c.GetAttributes().GetId()]
		if known == nil {
			continue
		}
		pod := of[known.PodSandboxId]
		if pod == nil {
			pod = &runtimeapi.LinuxPodSandboxStats{}
			of[known.PodSandboxId] = pod
			pods = append(pods, &runtimeapi.PodSandboxStats{Attributes: &runtimeapi.PodSandboxAttributes{Id: known.PodSandboxId}, Linux: pod})
		}
		pod.Containers = append(pod.Containers, c)
	}
	return pods, nil
}

func (p *Provider) pod(sandbox *runtimeapi.PodSandbox, from *runtimeapi.LinuxPodSandboxStats, here *present, full bool) statsapi.PodStats {
	meta := sandbox.GetMetadata()
	pod := statsapi.PodStats{
		PodRef:    statsapi.PodReference{Name: meta.GetName(), Namespace: meta.GetNamespace(), UID: meta.GetUid()},
		StartTime: metav1.Unix(0, sandbox.CreatedAt),
		CPU:       p.cpu("pod "+meta.GetUid(), from.GetCpu()),
		Memory:    memory(from.GetMemory()),
	}
	logs := filepath.Join(p.cfg.PodLogs, meta.GetNamespace()+"_"+meta.GetName()+"_"+meta.GetUid())
	for _, s := range from.GetContainers() {
		c := here.containers[s.GetAttributes().GetId()]
		switch {
		case c == nil:
		case c.State == runtimeapi.ContainerState_CONTAINER_RUNNING:
			pod.Containers = append(pod.Containers, p.container(c, s, logs, full))
		case full: // of which there are files
			pod.Containers = append(pod.Containers, p.container(c, &runtimeapi.ContainerStats{WritableLayer: s.WritableLayer}, logs, full))
		}
	}
	if pod.CPU == nil || pod.Memory == nil {
		p.fill(&pod)
	}
	addSwap(&pod)
	if !full {
		return pod
	}
	if io := from.GetIo(); io != nil {
		pod.IO = &statsapi.IOStats{Time: metav1.Unix(0, io.Timestamp), PSI: pressure(io.Psi)}
	}
	if n := from.GetProcess().GetProcessCount(); n != nil {
		pod.ProcessStats = &statsapi.ProcessStats{ProcessCount: &n.Value}
	}
	pod.Network = podNetwork(from.GetNetwork())
	p.storage(&pod, logs)
	return pod
}

// fill finds in the pod's cgroup what the runtime did not say, or adds up its containers' figures.
func (p *Provider) fill(pod *statsapi.PodStats) {
	cgroup := ""
	if p.cfg.PodCgroup != nil {
		cgroup = p.cfg.PodCgroup(types.UID(pod.PodRef.UID))
	}
	if cgroup != "" {
		now := metav1.NewTime(p.cfg.Now())
		if used, err := p.cgroups.cpu(cgroup); pod.CPU == nil && err == nil {
			pod.CPU = &statsapi.CPUStats{Time: now, UsageCoreNanoSeconds: &used, UsageNanoCores: p.rates.of("pod "+pod.PodRef.UID, now.Time, used)}
		}
		if m, err := p.cgroups.memory(cgroup, now); pod.Memory == nil && err == nil {
			pod.Memory = m
		}
	}
	noCPU, noMemory := pod.CPU == nil, pod.Memory == nil
	for i := range pod.Containers {
		c := &pod.Containers[i]
		if noCPU && c.CPU != nil {
			if pod.CPU == nil {
				pod.CPU = &statsapi.CPUStats{}
			}
			pod.CPU.Time = later(pod.CPU.Time, c.CPU.Time)
			pod.CPU.UsageCoreNanoSeconds = sum(pod.CPU.UsageCoreNanoSeconds, c.CPU.UsageCoreNanoSeconds)
			pod.CPU.UsageNanoCores = sum(pod.CPU.UsageNanoCores, c.CPU.UsageNanoCores)
		}
		if from := c.Memory; noMemory && from != nil {
			if pod.Memory == nil {
				pod.Memory = &statsapi.MemoryStats{}
			}
			to := pod.Memory
			to.Time = later(to.Time, from.Time)
			to.AvailableBytes = sum(to.AvailableBytes, from.AvailableBytes)
			to.UsageBytes = sum(to.UsageBytes, from.UsageBytes)
			to.WorkingSetBytes = sum(to.WorkingSetBytes, from.WorkingSetBytes)
			to.RSSBytes = sum(to.RSSBytes, from.RSSBytes)
			to.PageFaults = sum(to.PageFaults, from.PageFaults)
			to.MajorPageFaults = sum(to.MajorPageFaults, from.MajorPageFaults)
		}
	}
}

// addSwap adds up what containers swap: the runtime does not say it of pods.
func addSwap(pod *statsapi.PodStats) {
	for i := range pod.Containers {
		from := pod.Containers[i].Swap
		if from == nil {
			continue
		}
		if pod.Swap == nil {
			pod.Swap = &statsapi.SwapStats{}
		}
		pod.Swap.Time = later(pod.Swap.Time, from.Time)
		pod.Swap.SwapUsageBytes = sum(pod.Swap.SwapUsageBytes, from.SwapUsageBytes)
		pod.Swap.SwapAvailableBytes = sum(pod.Swap.SwapAvailableBytes, from.SwapAvailableBytes)
	}
}

func later(a, b metav1.Time) metav1.Time {
	if a.Before(&b) {
		return b
	}
	return a
}

// sum of what is known.
func sum(a, b *uint64) *uint64 {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	s := *a + *b
	return &s
}

func (p *Provider) container(c *runtimeapi.Container, from *runtimeapi.ContainerStats, logs string, full bool) statsapi.ContainerStats {
	s := statsapi.ContainerStats{
		Name: c.GetMetadata().GetName(), StartTime: metav1.Unix(0, c.CreatedAt),
		CPU: p.cpu("container "+c.Id, from.GetCpu()), Memory: memory(from.GetMemory()),
	}
	if swap := from.GetSwap(); swap != nil {
		s.Swap = &statsapi.SwapStats{
			Time: metav1.Unix(0, swap.Timestamp), SwapUsageBytes: value(swap.SwapUsageBytes), SwapAvailableBytes: value(swap.SwapAvailableBytes),
		}
	}
	if !full {
		return s
	}
	if io := from.GetIo(); io != nil {
		s.IO = &statsapi.IOStats{Time: metav1.Unix(0, io.Timestamp), PSI: pressure(io.Psi)}
	}
	s.Rootfs = written(from.GetWritableLayer())
	s.Logs = p.files(filepath.Join(logs, s.Name))
	return s
}

func (p *Provider) cpu(name string, from *runtimeapi.CpuUsage) *statsapi.CPUStats {
	if from == nil {
		return nil
	}
	s := &statsapi.CPUStats{
		Time: metav1.Unix(0, from.Timestamp), UsageCoreNanoSeconds: value(from.UsageCoreNanoSeconds),
		UsageNanoCores: value(from.UsageNanoCores), PSI: pressure(from.Psi),
	}
	if s.UsageNanoCores == nil && s.UsageCoreNanoSeconds != nil {
		s.UsageNanoCores = p.rates.of(name, time.Unix(0, from.Timestamp), *s.UsageCoreNanoSeconds)
	}
	return s
}

func memory(from *runtimeapi.MemoryUsage) *statsapi.MemoryStats {
	if from == nil {
		return nil
	}
	return &statsapi.MemoryStats{
		Time: metav1.Unix(0, from.Timestamp), AvailableBytes: value(from.AvailableBytes), UsageBytes: value(from.UsageBytes),
		WorkingSetBytes: value(from.WorkingSetBytes), RSSBytes: value(from.RssBytes), PageFaults: value(from.PageFaults),
		MajorPageFaults: value(from.MajorPageFaults), PSI: pressure(from.Psi),
	}
}

func value(from *runtimeapi.UInt64Value) *uint64 {
	if from == nil {
		return nil
	}
	return &from.Value
}

func pressure(from *runtimeapi.PsiStats) *statsapi.PSIStats {
	if from == nil {
		return nil
	}
	data := func(d *runtimeapi.PsiData) statsapi.PSIData {
		return statsapi.PSIData{Total: d.GetTotal(), Avg10: d.GetAvg10(), Avg60: d.GetAvg60(), Avg300: d.GetAvg300()}
	}
	return &statsapi.PSIStats{Full: data(from.Full), Some: data(from.Some)}
}

// loopback is the interface by which a pod speaks to itself.
const loopback = "lo"

func podNetwork(from *runtimeapi.NetworkUsage) *statsapi.NetworkStats {
	if from == nil {
		return nil
	}
	one := func(i *runtimeapi.NetworkInterfaceUsage) statsapi.InterfaceStats {
		return statsapi.InterfaceStats{
			Name: i.GetName(), RxBytes: value(i.GetRxBytes()), RxErrors: value(i.GetRxErrors()), TxBytes: value(i.GetTxBytes()), TxErrors: value(i.GetTxErrors()),
		}
	}
	first, others := from.DefaultInterface, from.Interfaces
	if first.GetName() == loopback && len(others) > 0 { // CRI-O means the first that there is
		first, others = others[0], append([]*runtimeapi.NetworkInterfaceUsage{first}, others[1:]...)
	}
	s := &statsapi.NetworkStats{Time: metav1.Unix(0, from.Timestamp), InterfaceStats: one(first)}
	for _, i := range others {
		s.Interfaces = append(s.Interfaces, one(i))
	}
	return s
}
