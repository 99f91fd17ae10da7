package server_test

import (
	"bufio"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// absent are series of kube-apiserver that this server does not have, by prefix, with the reason.
var absent = map[string]string{
	"apiserver_cache_list_":     "upstream's watch cache is not used",
	"apiserver_watch_cache_":    "upstream's watch cache is not used: cache_* tells of ours",
	"watch_cache_":              "upstream's watch cache is not used",
	"apiserver_watch_list_":     "upstream's watch cache is not used",
	"etcd_":                     "there is no etcd: commit_*, cache_* and retention_* tell of the store",
	"grpc_client_":              "there is no etcd",
	"apiserver_storage_data_":   "upstream's envelopes are not used for keys of the cluster's own",
	"apiserver_storage_env":     "upstream's envelopes are not used for keys of the cluster's own",
	"apiserver_storage_events":  "upstream's etcd client is not used",
	"apiserver_storage_list":    "upstream's etcd client is not used",
	"apiserver_storage_size":    "the database is the operator's: its size is its own figure",
	"apiserver_nodeport_repair": "node ports are repaired by our own loop",
	"apiserver_request_filter_": "two clock readings and an observation a filter and request, for what a trace shows",
	"apiextensions_":            "custom resources come with the part that serves them",
	"workqueue_":                "the server's parts are no work queues",
}

// counting is for the one cluster of the process whose APIServices are counted: the series are upstream's registry's.
var counting = sync.OnceValue(func() *controlplane.Metrics {
	metrics, err := controlplane.NewMetrics(prometheus.NewRegistry())
	if err == nil {
		err = metrics.CountAggregation()
	}
	if err != nil {
		panic(err)
	}
	return metrics
})

// TestMetrics looks for the names of kube-apiserver in /metrics, which dashboards know.
func TestMetrics(t *testing.T) {
	t.Parallel()
	get(t, "/api/v1/endpoints", "application/json") // a deprecated kind
	get(t, "/api/v1/configmaps?watch=true&timeoutSeconds=1", "application/json")
	resp := wire.Send(t, shared.URL, servertest.Request{
		Method: "POST", Path: "/api/v1/namespaces/default/configmaps?dryRun=All&fieldValidation=Strict", Token: servertest.AdminToken,
		Header: map[string][]string{"Content-Type": {"application/json"}}, Body: `{"metadata":{"name":"counted"}}`,
	})
	if resp.Status != 201 {
		t.Fatalf("%d %s", resp.Status, resp.Body)
	}
	services := newAggregatorClient(t, servertest.Start(t, servertest.Config{Plane: func(cfg *controlplane.Config) { cfg.Metrics = counting() }})).ApiregistrationV1().APIServices()
	other := wardleService("none", 443)
	other.Spec.Group, other.Name = "counted.example.com", "v1.counted.example.com"
	remote := other.Spec
	other.Spec.Service, other.Spec.InsecureSkipTLSVerify = nil, false // which is available
	other, err := services.Create(t.Context(), other, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other.Spec = remote // which is not, and that is a change
	if _, err := services.Update(t.Context(), other, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "APIServices are counted", func() bool {
		text := get(t, "/metrics", "text/plain")
		return strings.Contains(text, `aggregator_unavailable_apiservice{name="v1.apps"} 0`) && strings.Contains(text, `aggregator_unavailable_apiservice{name="v1.counted.example.com"} 1`) &&
			strings.Contains(text, `aggregator_unavailable_apiservice_total{name="v1.counted.example.com",reason="ServiceNotFound"} 1`)
	})
	have := map[string]bool{}
	for line := range strings.SplitSeq(get(t, "/metrics", "text/plain"), "\n") {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" {
			have[fields[2]] = true
		}
	}
	f, err := os.Open("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	excused := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name := lines.Text()
		reason := ""
		for prefix, why := range absent {
			if strings.HasPrefix(name, prefix) {
				reason, excused[prefix] = why, true
			}
		}
		if !have[name] && reason == "" {
			t.Errorf("%s: missing", name)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if err := services.Delete(t.Context(), other.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the APIService is forgotten", func() bool {
		return !strings.Contains(get(t, "/metrics", "text/plain"), `aggregator_unavailable_apiservice{name="v1.counted.example.com"}`)
	})
	for prefix := range absent {
		if !excused[prefix] {
			t.Errorf("%s: no name of kube-apiserver begins like that", prefix)
		}
	}
}
