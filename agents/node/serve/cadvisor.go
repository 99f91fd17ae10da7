package serve

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	kubelettypes "k8s.io/kubelet/pkg/types"
)

// The series of cAdvisor that are told from the node's own figures, as far as the runtime does not tell them.
const (
	usedCPU      = "container_cpu_usage_seconds_total"
	receivedData = "container_network_receive_bytes_total"
)

// ownSeries are those of a CPU's or memory's figures. Runtimes tell CPU time in whole seconds, of which no rate can be made: it is told from
// here always.
var ownSeries = []struct {
	name, help string
	kind       prometheus.ValueType
	of         func(*statsapi.CPUStats, *statsapi.MemoryStats) (*uint64, time.Time)
	unit       float64
}{
	{usedCPU, "Cumulative cpu time consumed in seconds.", prometheus.CounterValue, func(c *statsapi.CPUStats, _ *statsapi.MemoryStats) (*uint64, time.Time) {
		if c == nil {
			return nil, time.Time{}
		}
		return c.UsageCoreNanoSeconds, c.Time.Time
	}, float64(time.Second)},
	{"container_memory_working_set_bytes", "Current working set in bytes.", prometheus.GaugeValue, ofMemory(func(m *statsapi.MemoryStats) *uint64 { return m.WorkingSetBytes }), 1},
	{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", prometheus.GaugeValue, ofMemory(func(m *statsapi.MemoryStats) *uint64 { return m.UsageBytes }), 1},
	{"container_memory_rss", "Size of RSS in bytes.", prometheus.GaugeValue, ofMemory(func(m *statsapi.MemoryStats) *uint64 { return m.RSSBytes }), 1},
}

func ofMemory(field func(*statsapi.MemoryStats) *uint64) func(*statsapi.CPUStats, *statsapi.MemoryStats) (*uint64, time.Time) {
	return func(_ *statsapi.CPUStats, m *statsapi.MemoryStats) (*uint64, time.Time) {
		if m == nil {
			return nil, time.Time{}
		}
		return field(m), m.Time.Time
	}
}

// ofThing are the labels by which cAdvisor tells things apart.
var ofThing = []string{"container", "id", "image", "name", "namespace", "pod"}

// told is what a runtime measures of pods, in the names of cAdvisor; nothing where it does not.
type told struct {
	descriptors map[string]*runtimeapi.MetricDescriptor
	metrics     []*runtimeapi.Metric
	has         map[string]bool // by name
}

func (s *Server) told(ctx context.Context) *told {
	t := &told{descriptors: map[string]*runtimeapi.MetricDescriptor{}, has: map[string]bool{}}
	descriptors, err := s.cfg.Runtime.ListMetricDescriptors(ctx)
	var pods []*runtimeapi.PodSandboxMetrics
	if err == nil {
		pods, err = s.cfg.Runtime.ListPodSandboxMetrics(ctx)
	}
	if err != nil {
		s.cfg.Log.Debug("The runtime measures nothing of pods", "err", err)
	}
	for _, d := range descriptors {
		t.descriptors[d.Name] = d
	}
	put := func(metrics []*runtimeapi.Metric) {
		for _, m := range metrics {
			if t.descriptors[m.Name] != nil && m.Name != usedCPU {
				t.metrics = append(t.metrics, m)
				t.has[m.Name] = true
			}
		}
	}
	for _, pod := range pods {
		put(pod.Metrics)
		for _, c := range pod.ContainerMetrics {
			put(c.Metrics)
		}
	}
	return t
}

// help is what the runtime says of a series, or else what is known of it: there is one for each.
func (t *told) help(name, otherwise string) string {
	if d := t.descriptors[name]; d != nil {
		return d.Help
	}
	return otherwise
}

func (t *told) collect(out chan<- prometheus.Metric) {
	known := map[string]*prometheus.Desc{}
	for _, m := range t.metrics {
		d := t.descriptors[m.Name]
		keys, values := d.LabelKeys, m.LabelValues
		// cAdvisor has the name beside the id, which is where the cgroup is; runtimes have one of them.
		if id := slices.Index(keys, "id"); id >= 0 && id < len(values) && !slices.Contains(keys, "name") {
			keys, values = append(slices.Clip(keys), "name"), append(slices.Clip(values), values[id])
		}
		if known[m.Name] == nil {
			known[m.Name] = described(m.Name, d.Help, keys...)
		}
		kind := prometheus.CounterValue
		if m.MetricType == runtimeapi.MetricType_GAUGE {
			kind = prometheus.GaugeValue
		}
		metric, err := prometheus.NewConstMetric(known[m.Name], kind, float64(m.GetValue().GetValue()), values...)
		if err != nil {
			continue // the runtime contradicts itself
		}
		if m.Timestamp != 0 {
			metric = prometheus.NewMetricWithTimestamp(time.Unix(0, m.Timestamp), metric)
		}
		out <- metric
	}
}

// containerMetrics are what cAdvisor tells with a kubelet: of the machine, of all that runs on it, of pods and of their containers.
func (s *Server) containerMetrics(w http.ResponseWriter, req *http.Request) {
	ctx, cancel := context.WithTimeout(req.Context(), answerTime/2)
	defer cancel()
	t := s.told(ctx)
	ask := s.cfg.Stats.CPUAndMemory
	if !t.has[receivedData] {
		ask = s.cfg.Stats.Summary // which has that of networks
	}
	failed := 0.0
	summary, err := ask(ctx)
	var running map[string]*runtimeapi.Container
	if err == nil {
		running, err = s.runningContainers(ctx)
	}
	if err != nil {
		s.cfg.Log.Warn("Figures of containers were not found", "err", err)
		summary, failed = &statsapi.Summary{}, 1
	}
	collected(func(out chan<- prometheus.Metric) {
		t.collect(out)
		s.ownMetrics(out, t, summary, running)
		s.machine(out)
		out <- prometheus.MustNewConstMetric(described("container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise"), prometheus.GaugeValue, failed)
	}).serve(w, req)
}

// runningContainers are those that run, by pod and name.
func (s *Server) runningContainers(ctx context.Context) (map[string]*runtimeapi.Container, error) {
	all, err := s.cfg.Runtime.ListContainers(ctx, &runtimeapi.ContainerFilter{
		State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
	})
	if err != nil {
		return nil, err
	}
	running := make(map[string]*runtimeapi.Container, len(all))
	for _, c := range all {
		key := c.Labels[kubelettypes.KubernetesPodUIDLabel] + "/" + c.Labels[kubelettypes.KubernetesContainerNameLabel]
		if last := running[key]; last == nil || last.CreatedAt < c.CreatedAt {
			running[key] = c
		}
	}
	return running, nil
}

func (s *Server) ownMetrics(out chan<- prometheus.Metric, t *told, summary *statsapi.Summary, running map[string]*runtimeapi.Container) {
	for _, series := range ownSeries {
		keys := ofThing
		if series.name == usedCPU {
			keys = append(slices.Clip(ofThing), "cpu")
		}
		desc := described(series.name, t.help(series.name, series.help), keys...)
		put := func(cpu *statsapi.CPUStats, memory *statsapi.MemoryStats, labels ...string) {
			value, at := series.of(cpu, memory)
			if value == nil {
				return
			}
			if series.name == usedCPU {
				labels = append(labels, "total")
			}
			out <- prometheus.NewMetricWithTimestamp(at, prometheus.MustNewConstMetric(desc, series.kind, float64(*value)/series.unit, labels...))
		}
		put(summary.Node.CPU, summary.Node.Memory, "", "/", "", "", "", "")
		for i := range summary.Pods {
			pod := &summary.Pods[i]
			ref := pod.PodRef
			put(pod.CPU, pod.Memory, "", s.podCgroup(ref.UID), "", "", ref.Namespace, ref.Name)
			for j := range pod.Containers {
				c := &pod.Containers[j]
				if id := running[ref.UID+"/"+c.Name]; id != nil && !t.has[series.name] {
					put(c.CPU, c.Memory, c.Name, id.Id, imageOf(id), id.Id, ref.Namespace, ref.Name)
				}
			}
		}
	}
	if !t.has[receivedData] {
		networks(out, summary.Pods)
	}
}

func (s *Server) podCgroup(uid string) string {
	if s.cfg.PodCgroup == nil {
		return ""
	}
	return s.cfg.PodCgroup(uid)
}

// imageOf is what the pod calls the image.
func imageOf(c *runtimeapi.Container) string {
	if name := c.GetImage().GetUserSpecifiedImage(); name != "" {
		return name
	}
	return c.GetImage().GetImage()
}

// networks are what went over pods' networks.
func networks(out chan<- prometheus.Metric, pods []statsapi.PodStats) {
	for _, series := range []struct {
		name, help string
		of         func(*statsapi.InterfaceStats) *uint64
	}{
		{receivedData, "Cumulative count of bytes received", func(i *statsapi.InterfaceStats) *uint64 { return i.RxBytes }},
		{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", func(i *statsapi.InterfaceStats) *uint64 { return i.RxErrors }},
		{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", func(i *statsapi.InterfaceStats) *uint64 { return i.TxBytes }},
		{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", func(i *statsapi.InterfaceStats) *uint64 { return i.TxErrors }},
	} {
		desc := described(series.name, series.help, append(slices.Clip(ofThing), "interface")...)
		for i := range pods {
			pod := &pods[i]
			if pod.Network == nil {
				continue
			}
			if value := series.of(&pod.Network.InterfaceStats); value != nil {
				out <- prometheus.NewMetricWithTimestamp(pod.Network.Time.Time, prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(*value),
					"", "", "", "", pod.PodRef.Namespace, pod.PodRef.Name, pod.Network.Name))
			}
		}
	}
}

// machine is what the node is.
func (s *Server) machine(out chan<- prometheus.Metric) {
	if s.cfg.Object == nil {
		return
	}
	node := s.cfg.Object()
	if node == nil {
		return // it has not registered yet
	}
	info, capacity := node.Status.NodeInfo, node.Status.Capacity
	put := func(name, help string, value float64) {
		desc := described(name, help, "boot_id", "machine_id", "system_uuid")
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, info.BootID, info.MachineID, info.SystemUUID)
	}
	put("machine_cpu_cores", "Number of logical CPU cores.", capacity.Cpu().AsApproximateFloat64())
	put("machine_memory_bytes", "Amount of memory installed on the machine.", capacity.Memory().AsApproximateFloat64())
	if info.Swap != nil && info.Swap.Capacity != nil {
		put("machine_swap_bytes", "Amount of swap memory available on the machine.", float64(*info.Swap.Capacity))
	}
	out <- prometheus.MustNewConstMetric(described("machine_scrape_error", "1 if there was an error while getting machine metrics, 0 otherwise."), prometheus.GaugeValue, 0)
}
