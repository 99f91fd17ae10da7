package probe

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
	"k8s.io/utils/exec"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

type execFunc func(ctx context.Context, id string, command []string) ([]byte, error)

func (f execFunc) ExecSync(ctx context.Context, id string, command []string, _ time.Duration) ([]byte, []byte, error) {
	out, err := f(ctx, id, command)
	return out, nil, err
}

// started returns a prober that runs until the test ends.
func started(t *testing.T, c Config) *Prober {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Changed == nil {
		c.Changed = func(types.UID) {}
	}
	if c.Recorder == nil {
		c.Recorder = &record.FakeRecorder{}
	}
	p := New(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

func running(name string, uid types.UID, probe corev1.Probe) (*corev1.Pod, *corev1.PodStatus) {
	probe.SuccessThreshold, probe.FailureThreshold, probe.TimeoutSeconds = 1, 1, 1
	if probe.PeriodSeconds == 0 {
		probe.PeriodSeconds = 10
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: uid}}
	pod.Spec.Containers = []corev1.Container{{Name: name, ReadinessProbe: &probe}}
	status := &corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "127.0.0.1", ContainerStatuses: []corev1.ContainerStatus{{
		Name: name, ContainerID: "fake://" + name + string(uid), Started: ptr.To(true),
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
	}}}
	return pod, status
}

// TestNetwork asks servers of all kinds.
func TestNetwork(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Who") != "me" || !strings.HasPrefix(r.UserAgent(), "kube-probe/") {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://elsewhere.example/")
		w.WriteHeader(http.StatusFound)
		_, _ = w.Write([]byte("gone"))
	})
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, status := grpc.NewServer(), health.NewServer()
	status.SetServingStatus("sick", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(server, status)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	port := func(address string) int {
		_, text, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(address, "http://"), "https://"), ":")
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	get := func(scheme corev1.URIScheme, path string, port int) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Scheme: scheme, Path: path, Port: intstr.FromInt(port), HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Who", Value: "me"}},
		}}
	}
	for name, tc := range map[string]struct {
		probe corev1.ProbeHandler
		want  results.Result
		event string
	}{
		"http":     {probe: get("HTTP", "/ok", port(plain.URL))},
		"https":    {probe: get("HTTPS", "/ok", port(secure.URL))},
		"status":   {probe: get("HTTP", "/bad", port(plain.URL)), want: results.Failure, event: "Warning Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 418"},
		"redirect": {probe: get("HTTP", "/away", port(plain.URL)), event: "Warning ProbeWarning Readiness probe warning: Probe terminated redirects, Response body: gone"},
		"tcp":      {probe: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(port(plain.URL))}}},
		"refused": {
			probe: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(1)}}, want: results.Failure,
			event: "Warning Unhealthy Readiness probe failed: dial tcp 127.0.0.1:1: connect: connection refused",
		},
		"grpc": {probe: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(port(listener.Addr().String()))}}},
		"sick": {
			probe: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(port(listener.Addr().String())), Service: ptr.To("sick")}}, want: results.Failure,
			event: `Warning Unhealthy Readiness probe failed: service unhealthy (responded with "NOT_SERVING")`,
		},
		"no port": {
			probe: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("web")}}, want: results.Failure,
			event: `Warning Unhealthy Readiness probe errored and resulted in unknown state: strconv.Atoi: parsing "web": invalid syntax`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recorder := record.NewFakeRecorder(10)
			a := newAsker(Config{Recorder: recorder, Log: slog.New(slog.DiscardHandler)})
			pod, status := running("c", "1", corev1.Probe{ProbeHandler: tc.probe})
			c := &pod.Spec.Containers[0]
			result, _ := a.ask(t.Context(), question{kind: readiness, spec: c.ReadinessProbe, pod: pod, container: c, ip: status.PodIP})
			if result != tc.want {
				t.Errorf("result is %v, want %v", result, tc.want)
			}
			event := ""
			select {
			case event = <-recorder.Events:
			default:
			}
			if event != tc.event {
				t.Errorf("event is %q, want %q", event, tc.event)
			}
		})
	}
}

// TestSlow: pods that do not answer keep no others from being asked, and many that do are asked a few at a time.
func TestSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		p := started(t, Config{Parallel: 3, Runtime: execFunc(func(ctx context.Context, id string, _ []string) ([]byte, error) {
			if strings.HasPrefix(id, "slow") {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(10 * time.Millisecond)
			now.Add(-1)
			return nil, nil
		})})
		time.Sleep(time.Minute)
		probe := corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
		for i := range 20 {
			p.Set(running("slow", types.UID(fmt.Sprint("s", i)), probe))
		}
		for i := range 20 {
			p.Set(running("fast", types.UID(fmt.Sprint("f", i)), probe))
		}
		time.Sleep(9 * time.Second)
		for i := range 20 {
			uid := types.UID(fmt.Sprint("f", i))
			if diff := cmp.Diff(map[string]podstatus.Probes{"fast" + string(uid): {Readiness: ptr.To(true)}}, p.Status(uid)); diff != "" {
				t.Errorf("pod %s: want -, got +:\n%s", uid, diff)
			}
		}
		if n := most.Load(); n > 3 {
			t.Errorf("%d probes at a time, want at most 3", n)
		}
	})
}

// TestRestartedAgent: what ran before the agent did is as it was, until it is asked.
func TestRestartedAgent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ran  time.Duration
		want map[string]podstatus.Probes
	}{
		"long": {time.Minute, map[string]podstatus.Probes{"s": {Startup: ptr.To(true)}}},
		"new": {5 * time.Second, map[string]podstatus.Probes{
			"c": {Startup: ptr.To(false), Readiness: ptr.To(false)}, "s": {Startup: ptr.To(false), Readiness: ptr.To(false)},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := metav1.Now()
				time.Sleep(tc.ran)
				p := started(t, Config{Runtime: execFunc(func(ctx context.Context, _ string, _ []string) ([]byte, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})})
				pod, status := running("c", "1", corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}, PeriodSeconds: 10})
				c := &pod.Spec.Containers[0]
				c.StartupProbe = c.ReadinessProbe
				sidecar := *c.DeepCopy()
				sidecar.Name, sidecar.RestartPolicy = "s", ptr.To(corev1.ContainerRestartPolicyAlways)
				pod.Spec.InitContainers = []corev1.Container{sidecar}
				status.ContainerStatuses[0].State.Running.StartedAt = began
				of := *status.ContainerStatuses[0].DeepCopy()
				of.Name, of.ContainerID = "s", "fake://s"
				status.ContainerStatuses[0].ContainerID = "fake://c"
				status.InitContainerStatuses = []corev1.ContainerStatus{of}
				p.Set(pod, status)
				time.Sleep(20 * time.Second)
				if diff := cmp.Diff(tc.want, p.Status("1")); diff != "" {
					t.Errorf("want -, got +:\n%s", diff)
				}
			})
		})
	}
}

// TestOver: a container that does not come back is not probed, and one that does in spite of that is.
func TestOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		metrics := prometheus.NewRegistry()
		p := started(t, Config{Metrics: metrics, Runtime: execFunc(func(context.Context, string, []string) ([]byte, error) {
			asked.Add(1)
			return nil, exec.CodeExitError{Code: 2, Err: context.Canceled}
		})})
		time.Sleep(time.Minute)
		pod, status := running("c", "1", corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}, PeriodSeconds: 1})
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Set(pod, status)
		time.Sleep(5500 * time.Millisecond)
		families, err := metrics.Gather()
		if err != nil || len(families) != 1 || families[0].Metric[0].Counter.GetValue() != float64(asked.Load()) {
			t.Errorf("counted %v (%v), want %d failures", families, err, asked.Load())
		}
		again := status.DeepCopy()
		again.ContainerStatuses[0].ContainerID = "fake://again"
		status = status.DeepCopy()
		status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
		p.Set(pod, status)
		time.Sleep(5 * time.Second)
		before := asked.Load()
		if before < 5 || before > 8 {
			t.Errorf("asked %d times in 5.5 s", before)
		}
		time.Sleep(time.Minute)
		p.Set(pod, status)
		time.Sleep(time.Minute)
		if n := asked.Load(); n != before {
			t.Errorf("asked %d times after its end", n-before)
		}
		if families, _ := metrics.Gather(); len(families) != 0 {
			t.Errorf("still counted: %v", families)
		}
		p.Set(pod, again)
		time.Sleep(5500 * time.Millisecond)
		if asked.Load() == before {
			t.Error("not asked when it was back")
		}
	})
}
