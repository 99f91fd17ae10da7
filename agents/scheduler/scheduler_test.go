package scheduler_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/dynamic/dynamicinformer"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clientgotesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"

	"github.com/rowlock-io/rowlock/agents/crash"
	"github.com/rowlock-io/rowlock/agents/scheduler"
)

// crashes are those of the test's process, which survives them as a server's does.
var crashes = &crash.Handlers{}

func TestMain(m *testing.M) {
	utilruntime.ReallyCrash = false
	utilruntime.PanicHandlers = append(utilruntime.PanicHandlers, crashes.Handle)
	klog.OsExit = crash.Panic
	os.Exit(m.Run())
}

// bomb is a plug-in that panics at one point, while it is armed.
type bomb struct {
	at    string
	armed atomic.Bool
}

func (b *bomb) Name() string { return "Bomb" }

func (b *bomb) pass(at string) *fwk.Status {
	if at == b.at && b.armed.Load() {
		panic("bomb in " + at)
	}
	return nil
}

func (b *bomb) PreEnqueue(context.Context, *corev1.Pod) *fwk.Status { return b.pass("PreEnqueue") }

func (b *bomb) PreFilter(context.Context, fwk.CycleState, *corev1.Pod, []fwk.NodeInfo) (*fwk.PreFilterResult, *fwk.Status) {
	return nil, b.pass("PreFilter")
}

func (b *bomb) PreFilterExtensions() fwk.PreFilterExtensions { return nil }

func (b *bomb) Filter(context.Context, fwk.CycleState, *corev1.Pod, fwk.NodeInfo) *fwk.Status {
	return b.pass("Filter")
}

func (b *bomb) Reserve(context.Context, fwk.CycleState, *corev1.Pod, string) *fwk.Status {
	return b.pass("Reserve")
}

func (b *bomb) Unreserve(context.Context, fwk.CycleState, *corev1.Pod, string) {}

func (b *bomb) PreBindPreFlight(context.Context, fwk.CycleState, *corev1.Pod, string) (*fwk.PreBindPreFlightResult, *fwk.Status) {
	return nil, b.pass("PreBindPreFlight")
}

func (b *bomb) PreBind(context.Context, fwk.CycleState, *corev1.Pod, string) *fwk.Status {
	if b.at == "Exit" && b.armed.Load() {
		klog.FlushAndExit(0, 1) // as the scheduler's cache does when it is wrong
	}
	return b.pass("PreBind")
}

func (b *bomb) PostBind(context.Context, fwk.CycleState, *corev1.Pod, string) { b.pass("PostBind") }

// run runs a scheduler with a bomb on a cluster of a node and a pod until the pod is bound, or it ends by itself.
func run(t *testing.T, b *bomb) (bound bool, err error) {
	t.Helper()
	c, err := scheduler.Load("")
	if err != nil {
		t.Fatal(err)
	}
	c.Profiles[0].Plugins.MultiPoint.Enabled = append(c.Profiles[0].Plugins.MultiPoint.Enabled, config.Plugin{Name: b.Name()})
	capacity := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("9")}
	client := fake.NewClientset(
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Capacity: capacity, Allocatable: capacity}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "u"}, Spec: corev1.PodSpec{
			SchedulerName: corev1.DefaultSchedulerName, Containers: []corev1.Container{{Name: "c"}},
		}},
	)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	client.PrependReactor("create", "pods", func(action clientgotesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "binding" {
			return false, nil, nil
		}
		bound = true
		if b.at != "PostBind" || !b.armed.Load() {
			stop()
		}
		return true, nil, nil
	})
	err = scheduler.Run(ctx, scheduler.Config{
		Scheduler: *c, Client: client, Informers: informers.NewSharedInformerFactory(client, 0), Crashes: crashes,
		Dynamic: dynamicinformer.NewDynamicSharedInformerFactory(dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()), 0),
		Plugins: frameworkruntime.Registry{b.Name(): func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error) { return b, nil }},
		Log:     slog.New(slog.DiscardHandler),
	})
	if context.Cause(ctx) == context.DeadlineExceeded { //nolint:errorlint // it is that very value
		t.Fatalf("nothing happened; %v", err)
	}
	return bound, err
}

// TestPanics: wherever a panic comes from, it ends the scheduler and not the process, and another one schedules.
func TestPanics(t *testing.T) {
	for _, at := range []string{"PreEnqueue", "PreFilter", "Filter", "Reserve", "PreBindPreFlight", "PreBind", "PostBind", "Exit"} {
		t.Run(at, func(t *testing.T) {
			b := &bomb{at: at}
			b.armed.Store(true)
			want := "panic: bomb in " + at
			if at == "Exit" {
				want = "exit with code 1"
			}
			if _, err := run(t, b); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("ended with %v, want %q", err, want)
			}
			b.armed.Store(false)
			if bound, err := run(t, b); !bound {
				t.Errorf("the next one did not bind the pod: %v", err)
			}
		})
	}
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scheduler.yaml")
	if err := os.WriteFile(path, []byte("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"+content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCheck: each mistake is named, with the file where there is one.
func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"nothing wrong": {"parallelism: 4\npercentageOfNodesToScore: 50\npodInitialBackoffSeconds: 2\npodMaxBackoffSeconds: 20", ""},
		"profiles": {`
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  plugins: {multiPoint: {disabled: [{name: ImageLocality}]}}
  pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated}}}]`, ""},
		"unknown field":           {"parallel: 4", `unknown field "parallel"`},
		"invalid value":           {"parallelism: -1", "parallelism: Invalid value: -1"},
		"backoffs":                {"podInitialBackoffSeconds: 9\npodMaxBackoffSeconds: 3", "podMaxBackoffSeconds: Invalid value: 3"},
		"profiles of one name":    {"profiles: [{schedulerName: a}, {schedulerName: a}]", "profiles[1].schedulerName: Duplicate value"},
		"arguments of a plug-in":  {"profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 200}}]}]", "hardPodAffinityWeight: Invalid value: 200"},
		"no such plug-in":         {"profiles: [{plugins: {filter: {enabled: [{name: Nonsense}]}}}]", "Nonsense"},
		"not of that point":       {"profiles: [{plugins: {bind: {enabled: [{name: NodeName}]}}}]", "NodeName"},
		"extender's weight":       {"extenders: [{urlPrefix: 'http://a', prioritizeVerb: p, weight: -1}]", "extenders[0].weight: Invalid value: -1"},
		"two extenders that bind": {"extenders: [{urlPrefix: 'http://a', bindVerb: b}, {urlPrefix: 'http://c', bindVerb: b}]", "extenders: Invalid value"},
		"extender's authority":    {"extenders: [{urlPrefix: 'https://a', filterVerb: f, enableHTTPS: true, tlsConfig: {caFile: /none/ca}}]", "/none/ca"},
		"another kind":            {"kind: Nonsense", "Nonsense"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, tc.content)
			c, err := scheduler.Load(path)
			if err != nil && !strings.Contains(err.Error(), path) {
				t.Errorf("%v does not name %s", err, path)
			}
			if err == nil {
				err = scheduler.Check(c)
			}
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	if _, err := scheduler.Load("/none/a"); err == nil || !strings.Contains(err.Error(), "/none/a") {
		t.Errorf("no file: %v", err)
	}
}

func TestIgnored(t *testing.T) {
	t.Parallel()
	for content, want := range map[string][]string{
		"parallelism: 4": {},
		"leaderElection: {leaderElect: true}\nclientConnection: {qps: 5}\nenableProfiling: false\ndelayCacheUntilActive: true": {
			"clientConnection", "delayCacheUntilActive", "enableProfiling", "leaderElection",
		},
	} {
		path := file(t, content)
		if _, err := scheduler.Load(path); err != nil {
			t.Error(err)
		}
		got, err := scheduler.Ignored(path)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", content, err, diff)
		}
	}
	if got, err := scheduler.Ignored(""); got != nil || err != nil {
		t.Error(got, err)
	}
}
