package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Present is what a node has now.
type Present struct {
	// Pods have a sandbox that runs. Containers are how many are in each state: created, running, exited, unknown.
	Pods       int
	Containers map[string]int
	// Desired and Active pods are those that are to run, and those that take up room: from the API, and static ones.
	Desired, Active, DesiredStatic, ActiveStatic int
}

// Watch has what is there counted whenever somebody asks.
func (m *Metrics) Watch(look func() Present) { m.registry.MustRegister(&present{m, look}) }

type present struct {
	*Metrics
	look func() Present
}

// Describe implements prometheus.Collector.
func (p *present) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.runningPods, p.runningContainers, p.desiredPods, p.activePods, p.mirrors} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (p *present) Collect(out chan<- prometheus.Metric) {
	now := p.look()
	put := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	put(p.runningPods, now.Pods)
	for state, n := range now.Containers {
		put(p.runningContainers, n, state)
	}
	put(p.desiredPods, now.Desired, strconv.FormatBool(false))
	put(p.desiredPods, now.DesiredStatic, strconv.FormatBool(true))
	put(p.activePods, now.Active, strconv.FormatBool(false))
	put(p.activePods, now.ActiveStatic, strconv.FormatBool(true))
	put(p.mirrors, now.DesiredStatic)
}
