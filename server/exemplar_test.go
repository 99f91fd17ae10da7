package server_test

import (
	"slices"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// TestTracesAreExamples: the series of requests name a trace as an example, also where they were looked up before.
func TestTracesAreExamples(t *testing.T) {
	t.Parallel()
	s, _, stop := traced(t, 0)
	defer stop()
	const resource = "podtemplates" // of no other test
	get := servertest.Request{Method: "GET", Path: "/api/v1/namespaces/default/" + resource, Token: servertest.AdminToken}
	for range 3 {
		wire.Send(t, s.URL, get)
	}
	id, header := traceOf("e")
	get.Header = header
	wire.Send(t, s.URL, get)
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "apiserver_request_duration_seconds" {
			continue
		}
		for _, m := range family.Metric {
			if !slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == "resource" && l.GetValue() == resource }) {
				continue
			}
			for _, bucket := range m.Histogram.Bucket {
				if e := bucket.Exemplar; e != nil && slices.ContainsFunc(e.Label, func(l *dto.LabelPair) bool { return l.GetName() == "trace_id" && l.GetValue() == id }) {
					return
				}
			}
		}
	}
	t.Error("no example")
}
