package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	"github.com/rowlock-io/rowlock/agents/node/metrics"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// series are all that are shown, with their types and labels, but those of the process; values has what is counted.
func series(t *testing.T, r *prometheus.Registry) (all []string, values map[string]float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values = map[string]float64{}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "go_") || strings.HasPrefix(f.GetName(), "process_") {
			continue
		}
		var labels []string
		for _, m := range f.Metric {
			labels = labels[:0]
			given := make([]string, 0, len(m.Label))
			for _, l := range m.Label {
				labels, given = append(labels, l.GetName()), append(given, l.GetValue())
			}
			values[f.GetName()+" "+strings.Join(given, ",")] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ","))))
		if !strings.HasPrefix(f.GetHelp(), "[ALPHA] ") {
			t.Errorf("%s: %s", f.GetName(), f.GetHelp())
		}
	}
	return all, values
}

// askServer sends a request that is answered, and one that is not.
func askServer(t *testing.T, m *metrics.Metrics) {
	t.Helper()
	answered := true
	through := m.Client(roundTripper(func(*http.Request) (*http.Response, error) {
		if !answered {
			return nil, errors.New("gone")
		}
		answered = false
		return &http.Response{StatusCode: http.StatusTeapot, Body: http.NoBody}, nil
	}))
	for range 2 {
		resp, err := through.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.test/api", http.NoBody))
		if err == nil {
			_ = resp.Body.Close()
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

// TestSeries is the list of all series; a change of it is one that users see.
func TestSeries(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m := metrics.New(registry, "n1")
	m.Watch(func() metrics.Present {
		return metrics.Present{Pods: 2, Containers: map[string]int{"running": 3, "exited": 1}, Desired: 4, Active: 3, DesiredStatic: 2, ActiveStatic: 1}
	})
	m.Version("v1.36.3")
	m.Cgroups(2)
	m.Volumes(func() (wanted, there map[string]int) {
		return map[string]int{"kubernetes.io/secret": 3}, map[string]int{"kubernetes.io/secret": 2}
	})
	m.CgroupDone("create", time.Second)
	m.VolumeDone("volume_mount", "kubernetes.io/secret", time.Second, nil)
	m.VolumeDone("volume_unmount", "kubernetes.io/secret", time.Second, errors.New("busy"))
	askServer(t, m)
	fake := fakecri.Start(t, fakecri.Containerd())
	through := 0
	with := func(ctx context.Context) context.Context { through++; return ctx }
	r, err := runtime.Dial(t.Context(), fake.Endpoint(), runtime.Options{
		Log:          slog.New(slog.DiscardHandler),
		Around:       func(s internalapi.RuntimeService) internalapi.RuntimeService { return m.Runtime(s, with) },
		AroundImages: func(s internalapi.ImageManagerService) internalapi.ImageManagerService { return m.Images(s, nil) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close(context.WithoutCancel(t.Context())) }()
	ctx := t.Context()
	if _, err := r.Service().ListContainers(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Images().ListImages(ctx, nil); err != nil {
		t.Fatal(err)
	}
	fake.Fail(fakecri.Fault{Method: "RunPodSandbox", Err: errors.New("no network"), Times: 1})
	config := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "a", Namespace: "default", Uid: "u"}, LogDirectory: t.TempDir()}
	for range 2 {
		_, err := r.Service().RunPodSandbox(ctx, config, "")
		m.PodStarted(err != nil, err)
	}
	m.Listed(time.Now())
	m.Listed(time.Now())
	m.Turned("sync", time.Second)
	m.Ran(time.Second)
	m.ContainerStarted("container", "")
	m.OwnUsersFailed()
	m.ContainerEnded("container", 139, "Error")
	m.ContainerStarted("init_container", "ErrImagePull")
	answer := m.Requests(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for path, method := range map[string]string{"/pods": "GET", "/metrics/cadvisor": "GET", "/containerLogs/a/b/c": "GET", "/exec/a/b/c": "POST", "/secret/path": "WHATEVER"} {
		answer.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, method, path, http.NoBody))
	}
	all, values := series(t, registry)
	want := []string{
		"kubelet_active_pods gauge static",
		"kubelet_cgroup_manager_duration_seconds histogram operation_type",
		"kubelet_cgroup_version gauge",
		"kubelet_desired_pods gauge static",
		"kubelet_http_inflight_requests gauge long_running,method,path,server_type",
		"kubelet_http_requests_duration_seconds histogram long_running,method,path,server_type",
		"kubelet_http_requests_total counter long_running,method,path,server_type",
		"kubelet_mirror_pods gauge",
		"kubelet_node_name gauge node",
		"kubelet_pleg_last_seen_seconds gauge",
		"kubelet_pleg_relist_duration_seconds histogram",
		"kubelet_pleg_relist_interval_seconds histogram",
		"kubelet_pod_start_duration_seconds histogram",
		"kubelet_pod_worker_duration_seconds histogram operation_type",
		"kubelet_run_podsandbox_duration_seconds histogram runtime_handler",
		"kubelet_run_podsandbox_errors_total counter runtime_handler",
		"kubelet_running_containers gauge container_state",
		"kubelet_running_pods gauge",
		"kubelet_runtime_operations_duration_seconds histogram operation_type",
		"kubelet_runtime_operations_errors_total counter operation_type",
		"kubelet_runtime_operations_total counter operation_type",
		"kubelet_started_containers_errors_total counter code,container_type",
		"kubelet_started_containers_total counter container_type",
		"kubelet_started_pods_errors_total counter",
		"kubelet_started_pods_total counter",
		"kubelet_started_user_namespaced_pods_errors_total counter",
		"kubelet_started_user_namespaced_pods_total counter",
		"kubelet_terminated_containers_total counter container_type,exit_code,reason",
		"kubernetes_build_info gauge build_date,compiler,git_commit,git_tree_state,git_version,go_version,major,minor,platform",
		"rest_client_request_duration_seconds histogram host,verb",
		"rest_client_requests_total counter code,host,method",
		"storage_operation_duration_seconds histogram migrated,operation_name,status,volume_plugin",
		"volume_manager_total_volumes gauge plugin_name,state",
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("series: want -, got +:\n%s", diff)
	}
	for name, want := range map[string]float64{
		"kubelet_active_pods false": 3, "kubelet_active_pods true": 1, "kubelet_mirror_pods ": 2, "kubelet_running_pods ": 2,
		"kubelet_running_containers running": 3, "kubelet_runtime_operations_total run_podsandbox": 2, "kubelet_runtime_operations_errors_total run_podsandbox": 1,
		"kubelet_run_podsandbox_errors_total ": 1, "kubelet_runtime_operations_total list_images": 1, "kubelet_runtime_operations_total list_containers": 1,
		"kubelet_started_pods_total ": 2, "kubelet_started_user_namespaced_pods_total ": 1, "kubelet_started_user_namespaced_pods_errors_total ": 1, "kubelet_terminated_containers_total container,139,Error": 1, "kubelet_started_pods_errors_total ": 1, "kubelet_started_containers_errors_total ErrImagePull,init_container": 1,
		"kubelet_pleg_relist_duration_seconds ": 2, "kubelet_pleg_relist_interval_seconds ": 1,
		"kubelet_http_requests_total false,GET,metrics/cadvisor,readwrite": 1, "kubelet_http_requests_total true,POST,exec,readwrite": 1,
		"kubelet_http_requests_total false,other,other,readwrite": 1, "kubelet_http_inflight_requests false,GET,pods,readwrite": 0,
		"kubelet_http_requests_duration_seconds false,GET,containerLogs,readwrite": 1,
		"rest_client_requests_total 418,api.test,GET":                              1, "rest_client_requests_total <error>,api.test,GET": 1, "rest_client_request_duration_seconds api.test,GET": 2,
		"storage_operation_duration_seconds false,volume_mount,success,kubernetes.io/secret":        1,
		"storage_operation_duration_seconds false,volume_unmount,fail-unknown,kubernetes.io/secret": 1,
		"volume_manager_total_volumes kubernetes.io/secret,desired_state_of_world":                  3, "volume_manager_total_volumes kubernetes.io/secret,actual_state_of_world": 2,
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if !slices.Contains(all, "kubelet_node_name gauge node") || through < 4 {
		t.Errorf("%d calls went through the function", through)
	}
}
