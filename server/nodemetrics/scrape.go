package nodemetrics

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	fetchTime  = 10 * time.Second
	fetchBytes = 8 << 20 // of one node's answer
)

// point is what one thing had used at a time.
type point struct {
	at      time.Time
	cpu     float64 // seconds of a core
	memory  float64 // bytes
	started time.Time
	has     parts
}

type parts uint8

const (
	hasCPU parts = 1 << iota
	hasMemory
)

type container struct{ namespace, pod, name string }

// sample is what a node had to say at a time.
type sample struct {
	node       point
	containers map[container]*point
}

// fetch asks a node.
func (f *figures) fetch(ctx context.Context, node string) (*sample, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	info, err := f.cfg.Connect(ctx, node)
	if err != nil {
		return nil, err
	}
	at := url.URL{Scheme: info.Scheme, Host: net.JoinHostPort(info.Hostname, info.Port), Path: "/metrics/resource"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	resp, err := info.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("node %s answered %s", node, resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(resp.Body, fetchBytes))
	if err != nil {
		return nil, fmt.Errorf("figures of node %s: %w", node, err)
	}
	return read(families, began), nil
}

// read finds what is known in what a node said.
func read(families map[string]*dto.MetricFamily, now time.Time) *sample {
	s := &sample{containers: map[container]*point{}}
	of := func(m *dto.Metric) *point {
		var c container
		for _, l := range m.GetLabel() {
			switch l.GetName() {
			case "namespace":
				c.namespace = l.GetValue()
			case "pod":
				c.pod = l.GetValue()
			case "container":
				c.name = l.GetValue()
			}
		}
		if s.containers[c] == nil {
			s.containers[c] = &point{}
		}
		return s.containers[c]
	}
	node := func(*dto.Metric) *point { return &s.node }
	for name, into := range map[string]struct {
		of  func(*dto.Metric) *point
		set func(*point, float64, time.Time)
	}{
		"node_cpu_usage_seconds_total":       {node, setCPU},
		"node_memory_working_set_bytes":      {node, setMemory},
		"container_cpu_usage_seconds_total":  {of, setCPU},
		"container_memory_working_set_bytes": {of, setMemory},
		"container_start_time_seconds": {of, func(p *point, seconds float64, _ time.Time) {
			p.started = time.Unix(0, int64(seconds*float64(time.Second)))
		}},
	} {
		for _, m := range families[name].GetMetric() {
			at := now
			if m.TimestampMs != nil {
				at = time.UnixMilli(m.GetTimestampMs())
			}
			// A number is in one of them, as the type says.
			into.set(into.of(m), m.GetCounter().GetValue()+m.GetGauge().GetValue()+m.GetUntyped().GetValue(), at)
		}
	}
	return s
}

func setCPU(p *point, value float64, at time.Time) { p.cpu, p.at, p.has = value, at, p.has|hasCPU }

func setMemory(p *point, value float64, _ time.Time) { p.memory, p.has = value, p.has|hasMemory }
