// Package metrics counts what a node does, in the series that kubelets have, so that dashboards and alerts made for them show it: names,
// labels and buckets are those of the kubelet of Kubernetes 1.36. What is there now (pods, containers, certificates) is counted when
// somebody asks; what happened is counted when it happens.
package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics are those of one node.
type Metrics struct {
	registry *prometheus.Registry

	operations, operationErrors *prometheus.CounterVec
	operationTime               *prometheus.HistogramVec
	sandboxTime                 *prometheus.HistogramVec
	sandboxErrors               *prometheus.CounterVec

	relistTime, relistInterval prometheus.Histogram
	lastSeen                   prometheus.Gauge
	lastList                   time.Time // Listed is called by one goroutine

	turnTime                         *prometheus.HistogramVec
	startTime                        prometheus.Histogram
	pods, podErrors                  prometheus.Counter
	ownUsers, ownUsersErrors         prometheus.Counter // of pods with users of their own
	containers, containerErrors      *prometheus.CounterVec
	ended                            *prometheus.CounterVec
	requests                         *prometheus.CounterVec
	requestTime                      *prometheus.HistogramVec
	inFlight                         *prometheus.GaugeVec
	runningPods, runningContainers   *prometheus.Desc
	desiredPods, activePods, mirrors *prometheus.Desc

	client  client
	machine machine
}

// startBuckets are seconds that pods take to start.
var startBuckets = []float64{0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}

// New makes a node's, in a registry of which others may have parts.
func New(registry *prometheus.Registry, node string) *Metrics {
	m := &Metrics{
		registry:        registry,
		operations:      counters("runtime_operations_total", "Cumulative number of runtime operations by operation type.", "operation_type"),
		operationErrors: counters("runtime_operations_errors_total", "Cumulative number of runtime operation errors by operation type.", "operation_type"),
		operationTime: histograms("runtime_operations_duration_seconds", "Duration in seconds of runtime operations. Broken down by operation type.",
			prometheus.ExponentialBuckets(.005, 2.5, 14), "operation_type"),
		sandboxTime: histograms("run_podsandbox_duration_seconds", "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
			prometheus.DefBuckets, "runtime_handler"),
		sandboxErrors:  counters("run_podsandbox_errors_total", "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.", "runtime_handler"),
		relistTime:     histogram("pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG.", prometheus.DefBuckets),
		relistInterval: histogram("pleg_relist_interval_seconds", "Interval in seconds between relisting in PLEG.", prometheus.DefBuckets),
		lastSeen:       prometheus.NewGauge(prometheus.GaugeOpts(options("pleg_last_seen_seconds", "Timestamp in seconds when PLEG was last seen active."))),
		turnTime: histograms("pod_worker_duration_seconds", "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
			prometheus.DefBuckets, "operation_type"),
		startTime: histogram("pod_start_duration_seconds", "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run", startBuckets),
		pods:      prometheus.NewCounter(prometheus.CounterOpts(options("started_pods_total", "Cumulative number of pods started"))),
		podErrors: prometheus.NewCounter(prometheus.CounterOpts(options("started_pods_errors_total", "Cumulative number of errors when starting pods"))),
		ownUsers: prometheus.NewCounter(prometheus.CounterOpts(options("started_user_namespaced_pods_total",
			"Cumulative number of pods with user namespaces started. This metric will only be collected on Linux."))),
		ownUsersErrors: prometheus.NewCounter(prometheus.CounterOpts(options("started_user_namespaced_pods_errors_total",
			"Cumulative number of errors when starting pods with user namespaces. This metric will only be collected on Linux."))),
		containers: counters("started_containers_total", "Cumulative number of containers started", "container_type"),
		containerErrors: counters("started_containers_errors_total", "Cumulative number of errors when starting containers",
			"container_type", "code"),
		ended:       counters("terminated_containers_total", "Cumulative number of container terminations.", "container_type", "exit_code", "reason"),
		requests:    counters("http_requests_total", "Number of the http requests received since the server started", ofRequest...),
		requestTime: histograms("http_requests_duration_seconds", "Duration in seconds to serve http requests", prometheus.DefBuckets, ofRequest...),
		inFlight:    prometheus.NewGaugeVec(prometheus.GaugeOpts(options("http_inflight_requests", "Number of the inflight http requests")), ofRequest),

		runningPods:       described("running_pods", "Number of pods that have a running pod sandbox"),
		runningContainers: described("running_containers", "Number of containers currently running", "container_state"),
		desiredPods:       described("desired_pods", "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.", "static"),
		activePods:        described("active_pods", "The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.", "static"),
		mirrors:           described("mirror_pods", "The number of mirror pods the kubelet will try to create (one per admitted static pod)"),

		client: newClient(), machine: newMachine(),
	}
	name := prometheus.NewGaugeVec(prometheus.GaugeOpts(options("node_name", "The node's name. The count is always 1.")), []string{"node"})
	name.WithLabelValues(node).Set(1)
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), name,
		m.operations, m.operationErrors, m.operationTime, m.sandboxTime, m.sandboxErrors, m.relistTime, m.relistInterval, m.lastSeen,
		m.turnTime, m.startTime, m.pods, m.podErrors, m.ownUsers, m.ownUsersErrors, m.containers, m.containerErrors, m.ended, m.requests, m.requestTime, m.inFlight,
		m.client.requests, m.client.time, m.machine.cgroups, m.machine.storage,
	)
	return m
}

// Gatherer is what is shown.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

const subsystem = "kubelet"

func options(name, help string) prometheus.Opts {
	return prometheus.Opts{Subsystem: subsystem, Name: name, Help: "[ALPHA] " + help}
}

func described(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("", subsystem, name), "[ALPHA] "+help, labels, nil)
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts(options(name, help)), labels)
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Subsystem: subsystem, Name: name, Help: "[ALPHA] " + help, Buckets: buckets})
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: name, Help: "[ALPHA] " + help, Buckets: buckets}, labels)
}

// Listed counts a list of all that the runtime has, which began then and has just been answered.
func (m *Metrics) Listed(began time.Time) {
	m.relistTime.Observe(time.Since(began).Seconds())
	m.lastSeen.Set(float64(began.Unix()))
	if !m.lastList.IsZero() {
		m.relistInterval.Observe(began.Sub(m.lastList).Seconds())
	}
	m.lastList = began
}

// Turned counts one look of a worker at its pod: create for the first one, sync, kill or terminated.
func (m *Metrics) Turned(operation string, took time.Duration) {
	m.turnTime.WithLabelValues(operation).Observe(took.Seconds())
}

// Ran counts a pod that runs, so long after it was first seen.
func (m *Metrics) Ran(took time.Duration) { m.startTime.Observe(took.Seconds()) }

// PodStarted counts a sandbox that was asked for, with users of its own or without, and the error that came of it.
func (m *Metrics) PodStarted(ownUsers bool, err error) {
	m.pods.Inc()
	if err != nil {
		m.podErrors.Inc()
	}
	if ownUsers {
		m.ownUsers.Inc()
	}
}

// OwnUsersFailed counts a pod with users of its own that did not start, or one of its containers.
func (m *Metrics) OwnUsersFailed() { m.ownUsersErrors.Inc() }

// ContainerStarted counts a container that was to start: of a kind, container, init_container or ephemeral_container. failure is the reason
// why it did not; "": it did.
func (m *Metrics) ContainerStarted(kind, failure string) {
	m.containers.WithLabelValues(kind).Inc()
	if failure != "" {
		m.containerErrors.WithLabelValues(kind, failure).Inc()
	}
}

// ContainerEnded counts the end of a container.
func (m *Metrics) ContainerEnded(kind string, exitCode int32, reason string) {
	m.ended.WithLabelValues(kind, strconv.Itoa(int(exitCode)), reason).Inc()
}
