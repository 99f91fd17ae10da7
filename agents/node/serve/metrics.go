package serve

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// collected is a collector of what is there now: what is gone leaves nothing behind.
type collected func(chan<- prometheus.Metric)

func (c collected) Describe(chan<- *prometheus.Desc)         {}
func (c collected) Collect(metrics chan<- prometheus.Metric) { c(metrics) }

func (c collected) serve(w http.ResponseWriter, req *http.Request) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	gathered(registry).ServeHTTP(w, req)
}

var (
	ofContainer = []string{"container", "pod", "namespace"}
	ofPod       = []string{"pod", "namespace"}

	nodeCPU        = described("node_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by the node in core-seconds")
	nodeMemory     = described("node_memory_working_set_bytes", "[STABLE] Current working set of the node in bytes")
	nodeSwap       = described("node_swap_usage_bytes", "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems")
	containerStart = described("container_start_time_seconds", "[STABLE] Start time of the container since unix epoch in seconds", ofContainer...)
	containerCPU   = described("container_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by the container in core-seconds", ofContainer...)
	containerMem   = described("container_memory_working_set_bytes", "[STABLE] Current working set of the container in bytes", ofContainer...)
	containerSwap  = described("container_swap_usage_bytes", "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems", ofContainer...)
	containerLimit = described("container_swap_limit_bytes", "[ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems", ofContainer...)
	podCPU         = described("pod_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by the pod in core-seconds", ofPod...)
	podMemory      = described("pod_memory_working_set_bytes", "[STABLE] Current working set of the pod in bytes", ofPod...)
	podSwap        = described("pod_swap_usage_bytes", "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems", ofPod...)
	scrapeError    = described("resource_scrape_error", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise")
)

func described(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// resourceMetrics are what metrics-server reads.
func (s *Server) resourceMetrics(w http.ResponseWriter, req *http.Request) {
	summary, err := s.sum(req.Context(), s.cfg.Stats.CPUAndMemory)
	if err != nil {
		s.cfg.Log.Warn("Figures of the node were not found", "err", err)
	}
	collected(func(out chan<- prometheus.Metric) {
		if err != nil {
			out <- prometheus.MustNewConstMetric(scrapeError, prometheus.GaugeValue, 1)
			return
		}
		node := &summary.Node
		resources(out, node.CPU, node.Memory, node.Swap, nodeCPU, nodeMemory, nodeSwap, nil)
		for i := range summary.Pods {
			pod := &summary.Pods[i]
			for j := range pod.Containers {
				c := &pod.Containers[j]
				labels := []string{c.Name, pod.PodRef.Name, pod.PodRef.Namespace}
				if c.StartTime.Unix() > 0 {
					out <- prometheus.MustNewConstMetric(containerStart, prometheus.GaugeValue, float64(c.StartTime.UnixNano())/float64(time.Second), labels...)
				}
				resources(out, c.CPU, c.Memory, c.Swap, containerCPU, containerMem, containerSwap, containerLimit, labels...)
			}
			resources(out, pod.CPU, pod.Memory, pod.Swap, podCPU, podMemory, podSwap, nil, pod.PodRef.Name, pod.PodRef.Namespace)
		}
		out <- prometheus.MustNewConstMetric(scrapeError, prometheus.GaugeValue, 0)
	}).serve(w, req)
}

func resources(out chan<- prometheus.Metric, cpu *statsapi.CPUStats, memory *statsapi.MemoryStats, swap *statsapi.SwapStats,
	cpuDesc, memoryDesc, swapDesc, limitDesc *prometheus.Desc, labels ...string,
) {
	put := func(at time.Time, desc *prometheus.Desc, kind prometheus.ValueType, value float64) {
		out <- prometheus.NewMetricWithTimestamp(at, prometheus.MustNewConstMetric(desc, kind, value, labels...))
	}
	if cpu != nil && cpu.UsageCoreNanoSeconds != nil {
		put(cpu.Time.Time, cpuDesc, prometheus.CounterValue, float64(*cpu.UsageCoreNanoSeconds)/float64(time.Second))
	}
	if memory != nil && memory.WorkingSetBytes != nil {
		put(memory.Time.Time, memoryDesc, prometheus.GaugeValue, float64(*memory.WorkingSetBytes))
	}
	if swap == nil {
		return
	}
	used := 0.0
	if swap.SwapUsageBytes != nil {
		used = float64(*swap.SwapUsageBytes)
		put(swap.Time.Time, swapDesc, prometheus.GaugeValue, used)
	}
	if swap.SwapAvailableBytes != nil && limitDesc != nil {
		put(swap.Time.Time, limitDesc, prometheus.GaugeValue, float64(*swap.SwapAvailableBytes)+used)
	}
}
