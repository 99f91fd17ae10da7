package scheduler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// configuration has three profiles: upstream's, one that fills nodes up one after the other, and one that goes where a taint forbids it.
const configuration = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
parallelism: 4
percentageOfNodesToScore: 100
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 2
leaderElection: {leaderElect: true}
clientConnection: {qps: 1}
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}
  plugins:
    multiPoint:
      disabled: [{name: NodeResourcesBalancedAllocation}, {name: PodTopologySpread}, {name: ImageLocality}]
- schedulerName: careless
  plugins: {multiPoint: {disabled: [{name: TaintToleration}]}}
extenders:
- urlPrefix: %s
  filterVerb: filter
  prioritizeVerb: prioritize
  weight: 100
  managedResources: [{name: example.com/extended, ignoredByScheduler: true}]
`

// extender wants pods with its resource on the node sim-2.
func extender(t *testing.T, asked *atomic.Int32) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/filter", func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		var args extenderv1.ExtenderArgs
		if err := json.NewDecoder(req.Body).Decode(&args); err != nil {
			t.Errorf("the extender is asked what it does not understand: %v", err)
		}
		result := extenderv1.ExtenderFilterResult{Nodes: &corev1.NodeList{}, FailedNodes: extenderv1.FailedNodesMap{}}
		for _, node := range args.Nodes.Items {
			if node.Name == "sim-2" {
				result.Nodes.Items = append(result.Nodes.Items, node)
			} else {
				result.FailedNodes[node.Name] = "the extender says no"
			}
		}
		_ = json.NewEncoder(w).Encode(result)
	})
	mux.HandleFunc("/prioritize", func(w http.ResponseWriter, req *http.Request) {
		var args extenderv1.ExtenderArgs
		if err := json.NewDecoder(req.Body).Decode(&args); err != nil {
			t.Errorf("the extender is asked what it does not understand: %v", err)
		}
		scores := extenderv1.HostPriorityList{}
		for _, node := range args.Nodes.Items {
			scores = append(scores, extenderv1.HostPriority{Host: node.Name, Score: 1})
		}
		_ = json.NewEncoder(w).Encode(scores)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scheduler.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		var asked atomic.Int32
		file := write(t, fmt.Sprintf(configuration, extender(t, &asked).URL))
		cluster := target.NewCluster(t)
		server := cluster.StartServer(t, "--controllers=*", "--scheduler=true", "--scheduler-config="+file)
		cluster.Simulate(t, server.Kubeconfig, 3)
		client := server.Client(t)
		harness.NewNamespace(t, client, "scheduler")
		nodes(t, client, 3)

		// A node that nobody tolerates, of which only one profile does not take notice: it is the only one large enough.
		large := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "large", Labels: map[string]string{"rowlock.io/simulated": "true"}},
			Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "keep", Value: "out", Effect: corev1.TaintEffectNoSchedule}}},
		}
		if _, err := client.CoreV1().Nodes().Create(t.Context(), large, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		capacity := corev1.ResourceList{"cpu": resource.MustParse("64"), "memory": resource.MustParse("64Gi"), "pods": resource.MustParse("110")}
		large.Status = corev1.NodeStatus{Capacity: capacity, Allocatable: capacity}
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"capacity": capacity, "allocatable": capacity}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.CoreV1().Nodes().Patch(t.Context(), "large", "application/merge-patch+json", patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		nodes(t, client, 4)

		// Spread by upstream's profile, packed by another.
		var spread, packed []string
		for i := range 3 {
			spread = append(spread, place(t, client, fmt.Sprintf("spread-%d", i), "default-scheduler", corev1.ResourceList{"cpu": resource.MustParse("1")}))
		}
		for i := range 3 {
			packed = append(packed, place(t, client, fmt.Sprintf("packed-%d", i), "packing", corev1.ResourceList{"cpu": resource.MustParse("1")}))
		}
		if slices.Sort(spread); len(slices.Compact(slices.Clone(spread))) != 3 {
			t.Errorf("upstream's profile puts three pods onto %v", spread)
		}
		if len(slices.Compact(packed)) != 1 {
			t.Errorf("the packing profile puts three pods onto %v", packed)
		}
		if got := place(t, client, "careless", "careless", corev1.ResourceList{"cpu": resource.MustParse("32")}); got != "large" {
			t.Errorf("without TaintToleration a pod is put onto %s", got)
		}
		if asked.Load() > 0 {
			t.Error("the extender was asked about pods that it does not manage")
		}
		if got := place(t, client, "extended", "default-scheduler", corev1.ResourceList{"example.com/extended": resource.MustParse("1")}); got != "sim-2" || asked.Load() == 0 {
			t.Errorf("the extender was asked %d times, the pod is on %s", asked.Load(), got)
		}

		metrics, err := client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, series := range []string{
			`scheduler_schedule_attempts_total\{profile="packing",result="scheduled"\} 3`,
			`scheduler_schedule_attempts_total\{profile="careless",result="scheduled"\} 1`,
			`scheduler_pending_pods\{queue="active"\} 0`,
			`scheduler_framework_extension_point_duration_seconds_count\{extension_point="Filter",profile="packing",status="Success"\}`,
		} {
			if !regexp.MustCompile(`(?m)^` + series).Match(metrics) {
				t.Errorf("no %s in /metrics", series)
			}
		}
		log, err := os.ReadFile(server.Log)
		if err != nil {
			t.Fatal(err)
		}
		if want := `ignored="[clientConnection leaderElection]"`; strings.Count(string(log), want) != 1 {
			t.Errorf("%s is not said once", want)
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, "forbidden") {
				t.Error(line)
			}
		}
	}, harness.SQLite, harness.OnPostgres)
}

// TestWrongConfiguration: a file that is wrong ends the start.
func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		head := "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
		cluster := target.NewCluster(t)
		for content, want := range map[string]string{
			head + "parallel: 4":     `unknown field "parallel"`,
			head + "parallelism: -1": `parallelism: Invalid value: -1`,
			head + "profiles: [{plugins: {filter: {enabled: [{name: Nonsense}]}}}]": "Nonsense",
		} {
			file := write(t, content)
			cluster.NewServer(t, "--scheduler=true", "--scheduler-config="+file).
				Refuses(t, "--scheduler-config: "+regexp.QuoteMeta(file)+": .*"+regexp.QuoteMeta(want))
		}
		cluster.NewServer(t, "--scheduler=true", "--scheduler-config=/none/a").Refuses(t, "--scheduler-config: open /none/a")
		cluster.NewServer(t, "--scheduler=false", "--scheduler-config="+write(t, head)).Refuses(t, "--scheduler-config is about")
	}, harness.SQLite)
}

// nodes waits until that many can take pods.
func nodes(t *testing.T, client kubernetes.Interface, count int) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		free := 0
		for _, n := range list.Items {
			cpu := n.Status.Allocatable[corev1.ResourceCPU]
			if len(n.Spec.Taints) == 0 || n.Name == "large" && len(n.Spec.Taints) == 1 && cpu.Value() == 64 {
				free++
			}
		}
		return free == count, nil
	})
	if err != nil {
		t.Fatalf("%d nodes: %v", count, err)
	}
}

// place makes a pod and returns the node that it is put onto.
func place(t *testing.T, client kubernetes.Interface, name, scheduler string, requests corev1.ResourceList) (node string) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		SchedulerName: scheduler,
		Containers:    []corev1.Container{{Name: "c", Image: "example.com/c", Resources: corev1.ResourceRequirements{Requests: requests, Limits: requests}}},
	}}
	if _, err := client.CoreV1().Pods("scheduler").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		pod, err := client.CoreV1().Pods("scheduler").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		node = pod.Spec.NodeName
		return node != "", nil
	})
	if err != nil {
		t.Fatalf("pod %s is not put onto a node: %v", name, err)
	}
	return node
}
