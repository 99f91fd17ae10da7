package metrics

import (
	goruntime "runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// machine counts what is done to the node itself.
type machine struct {
	cgroups *prometheus.HistogramVec
	storage *prometheus.HistogramVec
	volumes *prometheus.Desc
}

func newMachine() machine {
	return machine{
		cgroups: histograms("cgroup_manager_duration_seconds", "Duration in seconds for cgroup manager operations. Broken down by method.",
			prometheus.DefBuckets, "operation_type"),
		storage: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "storage_operation_duration_seconds", Help: "[ALPHA] Storage operation duration",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600},
		}, []string{"volume_plugin", "operation_name", "status", "migrated"}),
		volumes: prometheus.NewDesc("volume_manager_total_volumes", "[ALPHA] Number of volumes in Volume Manager", []string{"plugin_name", "state"}, nil),
	}
}

// Cgroups says which version of cgroups the node has, 1 or 2.
func (m *Metrics) Cgroups(version int) {
	g := prometheus.NewGauge(prometheus.GaugeOpts(options("cgroup_version", "cgroup version on the hosts.")))
	g.Set(float64(version))
	m.registry.MustRegister(g)
}

// CgroupDone counts what was done to a pod's cgroup: create, update or destroy.
func (m *Metrics) CgroupDone(operation string, took time.Duration) {
	m.machine.cgroups.WithLabelValues(operation).Observe(took.Seconds())
}

// VolumeDone counts what was done to a volume of a kind: volume_mount or volume_unmount.
func (m *Metrics) VolumeDone(operation, plugin string, took time.Duration, err error) {
	status := "success"
	if err != nil {
		status = "fail-unknown"
	}
	m.machine.storage.WithLabelValues(plugin, operation, status, "false").Observe(took.Seconds())
}

// Volumes has those counted that are wanted, and those that are there, by their kind, whenever somebody asks.
func (m *Metrics) Volumes(count func() (wanted, there map[string]int)) {
	m.registry.MustRegister(&volumes{m.machine.volumes, count})
}

type volumes struct {
	desc  *prometheus.Desc
	count func() (wanted, there map[string]int)
}

// Describe implements prometheus.Collector.
func (v *volumes) Describe(out chan<- *prometheus.Desc) { out <- v.desc }

// Collect implements prometheus.Collector.
func (v *volumes) Collect(out chan<- prometheus.Metric) {
	wanted, there := v.count()
	for state, all := range map[string]map[string]int{"desired_state_of_world": wanted, "actual_state_of_world": there} {
		for plugin, n := range all {
			out <- prometheus.MustNewConstMetric(v.desc, prometheus.GaugeValue, float64(n), plugin, state)
		}
	}
}

// Version says of which Kubernetes the node is, such as v1.36.3, as all of its programs do.
func (m *Metrics) Version(version string) {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubernetes_build_info", Help: "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, " +
			"build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
	}, []string{"major", "minor", "git_version", "git_commit", "git_tree_state", "build_date", "go_version", "compiler", "platform"})
	info.WithLabelValues(major, minor, version, "", "", "", goruntime.Version(), goruntime.Compiler, goruntime.GOOS+"/"+goruntime.GOARCH).Set(1)
	m.registry.MustRegister(info)
}
