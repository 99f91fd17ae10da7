package node

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"github.com/rowlock-io/rowlock/agents/node/eviction"
	"github.com/rowlock-io/rowlock/agents/node/shutdown"
)

// registered waits for the node.
func (a *agent) registered() {
	a.t.Helper()
	a.until("a node", func() bool {
		_, err := a.client.CoreV1().Nodes().Get(context.Background(), "n1", metav1.GetOptions{})
		return err == nil
	})
}

// TestNames: variables have the names that they are given, whether a shell can use them or not (KEP-4369).
func TestNames(t *testing.T) {
	p := pod("a")
	want := map[string]string{"data-1": "1", "1-data": "2", "$_-data": "3", "#@!data": "4"}
	for name, value := range want {
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: name, Value: value})
	}
	a := start(t, p)
	a.until("a pod that runs", func() bool { p := a.pod("a"); return p != nil && p.Status.Phase == corev1.PodRunning })
	got := map[string]string{}
	for _, v := range a.runtime.ContainerConfig(a.runtime.Container("c").Id).Envs {
		got[v.Key] = string(v.Value)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("the runtime was given %q for %s, want %q", got[name], name, value)
		}
	}
}

// TestMetrics: what a node does is counted in the kubelet's series.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	a := start(t)
	a.registered()
	a.stop()
	a.cfg.Metrics = registry
	p := pod("a")
	if err := a.client.Tracker().Add(p); err != nil {
		t.Fatal(err)
	}
	a.run()
	a.until("a pod that runs", func() bool { p := a.pod("a"); return p != nil && p.Status.Phase == corev1.PodRunning })
	value := func(name string, labels ...string) float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.Metric {
				var got []string
				for _, l := range m.Label {
					got = append(got, l.GetName()+"="+l.GetValue())
				}
				if f.GetName() == name && slices.Equal(got, labels) {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
			}
		}
		return -1
	}
	a.until("a container that is seen to run", func() bool { return value("kubelet_running_containers", "container_state=running") == 1 })
	for _, tt := range []struct {
		name   string
		labels []string
		exact  float64 // 0: some
	}{
		{"kubelet_node_name", []string{"node=n1"}, 1},
		{"kubelet_running_pods", nil, 1},
		{"kubelet_desired_pods", []string{"static=false"}, 1},
		{"kubelet_active_pods", []string{"static=false"}, 1},
		{"kubelet_started_pods_total", nil, 1},
		{"kubelet_started_containers_total", []string{"container_type=container"}, 1},
		{"kubelet_pod_start_duration_seconds", nil, 1},
		{"kubelet_pod_worker_duration_seconds", []string{"operation_type=create"}, 1},
		{"kubelet_run_podsandbox_duration_seconds", []string{"runtime_handler="}, 1},
		{"kubelet_runtime_operations_total", []string{"operation_type=create_container"}, 1},
		{"kubelet_runtime_operations_total", []string{"operation_type=image_status"}, 0},
		{"kubelet_pleg_relist_duration_seconds", nil, 0},
		{"kubelet_pleg_last_seen_seconds", nil, 0},
		{"go_goroutines", nil, 0},
	} {
		if got := value(tt.name, tt.labels...); got <= 0 || tt.exact != 0 && got != tt.exact {
			t.Errorf("%s %v is %v", tt.name, tt.labels, got)
		}
	}
}

// TestQuietly: what upstream's client calls an error is shown to who looks closely.
func TestQuietly(t *testing.T) {
	for level, want := range map[slog.Level]string{slog.LevelInfo: "", slog.LevelDebug: "level=DEBUG msg=broken a=b\n"} {
		var out strings.Builder
		drop := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
		log := slog.New(quietly{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level, ReplaceAttr: drop})})
		log.With("a", "b").Error("broken")
		if out.String() != want {
			t.Errorf("at %v it says %q, want %q", level, out.String(), want)
		}
	}
}

// TestProviders: programs that know credentials are asked for before anything runs, and one that is not there ends the start.
func TestProviders(t *testing.T) {
	a := start(t)
	a.registered()
	a.stop()
	asked := 0
	a.cfg.Pulls.Providers = func(client kubernetes.Interface) error {
		if client == nil {
			t.Error("there is no client")
		}
		asked++
		return io.ErrUnexpectedEOF
	}
	if err := Run(t.Context(), a.cfg); err == nil || asked != 1 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

// TestConfigz: the configuration is shown as a kubelet shows it, and says nothing that is not so.
func TestConfigz(t *testing.T) {
	keep := Kept()
	keep.Images.High = 70
	cfg := Config{
		Name: "n1", DataDir: t.TempDir(), Runtime: "unix:///x", API: &rest.Config{}, Keep: &keep, Cgroups: true,
		Reserved: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("200m")}, Pulls: Pulls{QPS: 5, Burst: 10},
		Shutdown: []shutdown.Period{{Grace: 30 * time.Second}, {Priority: 2000000000, Grace: 10 * time.Second}},
	}
	hard, soft := map[string]string{"memory.available": "100Mi", "nodefs.available": "7.5%"}, map[string]string{"memory.available": "1Gi"}
	grace, reclaim := map[string]string{"memory.available": "1m30s"}, map[string]string{"nodefs.available": "500Mi"}
	thresholds, err := eviction.Parse(hard, soft, grace, reclaim, true)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Eviction = eviction.Policy{Thresholds: thresholds, Transition: time.Minute, MaxGrace: 30, Limits: true}
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	shown := cfg.configz("systemd")
	data, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	var got kubeletv1beta1.KubeletConfiguration
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Kind != "KubeletConfiguration" || got.MaxPods != 110 || *got.ImageGCHighThresholdPercent != 70 || got.ContainerLogMaxSize != "10Mi" ||
		got.CgroupDriver != "systemd" || got.SystemReserved["cpu"] != "200m" || *got.RegistryPullQPS != 5 || *got.CPUCFSQuota != true || *got.PodPidsLimit != -1 ||
		*got.Authentication.Anonymous.Enabled || got.EvictionMaxPodGracePeriod != 30 || !*got.LocalStorageCapacityIsolation || got.MemorySwap.SwapBehavior != "NoSwap" {
		t.Errorf("%s", data)
	}
	for what, maps := range map[string][2]map[string]string{
		"hard": {hard, got.EvictionHard}, "soft": {soft, got.EvictionSoft}, "grace": {grace, got.EvictionSoftGracePeriod}, "reclaim": {reclaim, got.EvictionMinimumReclaim},
	} {
		if diff := cmp.Diff(maps[0], maps[1]); diff != "" {
			t.Errorf("%s thresholds: said -, shown +:\n%s", what, diff)
		}
	}
	if last := got.ShutdownGracePeriodByPodPriority; len(last) != 2 || last[1].Priority != 2000000000 || last[1].ShutdownGracePeriodSeconds != 10 {
		t.Errorf("shutdown: %+v", last)
	}
	all, _ := shown.(map[string]any)
	for _, name := range []string{"logging", "syncFrequency", "tlsCertFile", "crashLoopBackOff"} {
		if all == nil || all[name] != nil {
			t.Errorf("%s is shown: %s", name, data)
		}
	}
}

// TestHealthz: the loop is well while it comes round.
func TestHealthz(t *testing.T) {
	age := time.Duration(0)
	check := syncLoop(func() time.Time {
		if age < 0 {
			return time.Time{}
		}
		return time.Now().Add(-age)
	})
	for _, tt := range []struct {
		age time.Duration
		ok  bool
	}{{0, true}, {4 * time.Minute, true}, {6 * time.Minute, false}, {-1, true}} {
		age = tt.age
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "/healthz/syncloop", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if err := check.Check(req); (err == nil) != tt.ok {
			t.Errorf("after %v: %v", tt.age, err)
		}
	}
	if !slices.Equal([]string{check.Name()}, []string{"syncloop"}) {
		t.Error(check.Name())
	}
}
