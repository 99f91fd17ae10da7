package fakecri

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Figures that containers are said to have: a tenth of a CPU since they began, and so many bytes.
const (
	Memory       = 10 << 20
	WorkingSet   = 8 << 20
	WrittenBytes = 1 << 20
	Received     = 1000
	Sent         = 2000
)

func value(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }

func (r *Runtime) stats(c *container) *runtimeapi.ContainerStats {
	t := now()
	return clone(&runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{
			Id: c.status.Id, Metadata: c.status.Metadata, Labels: c.status.Labels, Annotations: c.status.Annotations,
		},
		Cpu: &runtimeapi.CpuUsage{
			Timestamp: t, UsageCoreNanoSeconds: value(uint64(t-c.status.StartedAt) / 10), UsageNanoCores: value(uint64(time.Second / 10)),
		},
		Memory: &runtimeapi.MemoryUsage{
			Timestamp: t, WorkingSetBytes: value(WorkingSet), UsageBytes: value(Memory), RssBytes: value(WorkingSet / 2), PageFaults: value(100), MajorPageFaults: value(1),
		},
		WritableLayer: &runtimeapi.FilesystemUsage{
			Timestamp: t, FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: r.imageFs}, UsedBytes: value(WrittenBytes), InodesUsed: value(10),
		},
	})
}

func (r *Runtime) podStats(s *sandbox) *runtimeapi.PodSandboxStats {
	t := now()
	out := &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{Id: s.id, Metadata: s.config.Metadata, Labels: s.config.Labels, Annotations: s.config.Annotations},
		Linux: &runtimeapi.LinuxPodSandboxStats{
			Cpu:    &runtimeapi.CpuUsage{Timestamp: t, UsageCoreNanoSeconds: value(0), UsageNanoCores: value(0)},
			Memory: &runtimeapi.MemoryUsage{Timestamp: t, WorkingSetBytes: value(0), UsageBytes: value(0), RssBytes: value(0)},
			Network: &runtimeapi.NetworkUsage{
				Timestamp: t, DefaultInterface: &runtimeapi.NetworkInterfaceUsage{Name: "eth0", RxBytes: value(Received), TxBytes: value(Sent), RxErrors: value(0), TxErrors: value(0)},
			},
			Process: &runtimeapi.ProcessUsage{Timestamp: t, ProcessCount: value(0)},
		},
	}
	if n := out.Linux.Network; r.Profile.LoopbackFirst {
		n.Interfaces = []*runtimeapi.NetworkInterfaceUsage{n.DefaultInterface}
		n.DefaultInterface = &runtimeapi.NetworkInterfaceUsage{Name: "lo", RxBytes: value(0), TxBytes: value(0), RxErrors: value(0), TxErrors: value(0)}
	}
	for _, c := range r.containers {
		if c.sandbox != s.id || c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
			continue
		}
		one := r.stats(c)
		out.Linux.Containers = append(out.Linux.Containers, one)
		out.Linux.Cpu.UsageCoreNanoSeconds.Value += one.Cpu.UsageCoreNanoSeconds.Value
		out.Linux.Cpu.UsageNanoCores.Value += one.Cpu.UsageNanoCores.Value
		out.Linux.Memory.WorkingSetBytes.Value += one.Memory.WorkingSetBytes.Value
		out.Linux.Memory.UsageBytes.Value += one.Memory.UsageBytes.Value
		out.Linux.Memory.RssBytes.Value += one.Memory.RssBytes.Value
		out.Linux.Process.ProcessCount.Value++
	}
	return clone(out)
}

func (r *runtimeServer) ContainerStats(_ context.Context, req *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[req.ContainerId]
	if c == nil {
		return nil, notFound(req.ContainerId)
	}
	return &runtimeapi.ContainerStatsResponse{Stats: r.stats(c)}, nil
}

func (r *runtimeServer) ListContainerStats(_ context.Context, req *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListContainerStatsResponse{}
	f := req.GetFilter()
	for id, c := range r.containers {
		if c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING && (f.GetId() == "" || f.Id == id) &&
			(f.GetPodSandboxId() == "" || f.PodSandboxId == c.sandbox) && selects(f.GetLabelSelector(), c.status.Labels) {
			out.Stats = append(out.Stats, r.stats(c))
		}
	}
	return out, nil
}

var errNoPodStats = status.Error(codes.Unimplemented, "not implemented")

func (r *runtimeServer) PodSandboxStats(_ context.Context, req *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.Profile.PodStats {
		return nil, errNoPodStats
	}
	s := r.sandboxes[req.PodSandboxId]
	if s == nil {
		return nil, status.Error(codes.NotFound, "an error occurred when trying to find sandbox: not found")
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: r.podStats(s)}, nil
}

func (r *runtimeServer) ListPodSandboxStats(_ context.Context, req *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.Profile.PodStats {
		return nil, errNoPodStats
	}
	out := &runtimeapi.ListPodSandboxStatsResponse{}
	f := req.GetFilter()
	for id, s := range r.sandboxes {
		if s.ready && (f.GetId() == "" || f.Id == id) && selects(f.GetLabelSelector(), s.config.Labels) {
			out.Stats = append(out.Stats, r.podStats(s))
		}
	}
	return out, nil
}

func (r *runtimeServer) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	if !r.Profile.PodStats {
		return nil, errNoPodStats
	}
	return &runtimeapi.ListMetricDescriptorsResponse{Descriptors: []*runtimeapi.MetricDescriptor{{
		Name: "container_memory_usage_bytes", Help: "Current memory usage in bytes.", LabelKeys: []string{"id", "name"},
	}}}, nil
}

func (r *runtimeServer) ListPodSandboxMetrics(context.Context, *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.Profile.PodStats {
		return nil, errNoPodStats
	}
	out := &runtimeapi.ListPodSandboxMetricsResponse{}
	for _, s := range r.sandboxes {
		pod := &runtimeapi.PodSandboxMetrics{PodSandboxId: s.id}
		for id, c := range r.containers {
			if c.sandbox == s.id && c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
				pod.ContainerMetrics = append(pod.ContainerMetrics, &runtimeapi.ContainerMetrics{ContainerId: id, Metrics: []*runtimeapi.Metric{{
					Name: "container_memory_usage_bytes", Timestamp: now(), MetricType: runtimeapi.MetricType_GAUGE,
					LabelValues: []string{id, c.config.Metadata.Name}, Value: value(Memory),
				}}})
			}
		}
		out.PodMetrics = append(out.PodMetrics, pod)
	}
	return out, nil
}
