package probe

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
)

// TestHostileServers: whatever a pod answers, its probe ends in time, and little of the answer is kept.
func TestHostileServers(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		junk := []byte(strings.Repeat("x", 1<<16))
		for r.Context().Err() == nil {
			if _, err := w.Write(junk); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/drip", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte("."))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 1 << 12 {
			w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("x", 1<<12))
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(address.Port())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]results.Result{
		"/endless": results.Success, "/loop": results.Failure, "/silent": results.Failure, "/drip": results.Failure, "/headers": results.Failure,
	} {
		t.Run(path[1:], func(t *testing.T) {
			t.Parallel()
			events := record.NewFakeRecorder(10)
			a := newAsker(Config{Recorder: events})
			spec := &corev1.Probe{TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(port)}}}
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "1"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
			got, _ := a.ask(t.Context(), question{kind: readiness, spec: spec, pod: pod, container: &pod.Spec.Containers[0], ip: "127.0.0.1"})
			if got != want {
				t.Errorf("result %v, want %v", got, want)
			}
			select {
			case event := <-events.Events:
				if len(event) > 1<<14 {
					t.Errorf("an event of %d bytes", len(event))
				}
			default:
			}
		})
	}
}

// TestLoudCommand: of what a command of a probe says only the beginning is kept.
func TestLoudCommand(t *testing.T) {
	t.Parallel()
	events := record.NewFakeRecorder(10)
	a := newAsker(Config{Recorder: events, Runtime: execFunc(func(context.Context, string, []string) ([]byte, error) {
		return make([]byte, 16<<20), nil
	})})
	spec := &corev1.Probe{TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"yes"}}}}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if got, err := a.ask(t.Context(), question{kind: readiness, spec: spec, pod: pod, container: &pod.Spec.Containers[0]}); got != results.Success || err != nil {
		t.Errorf("result %v, %v", got, err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 24<<20 { // what the runtime gave is 16 MiB of that
		t.Errorf("%d bytes were made of it", took)
	}
}

// TestClockSetBack: a container that started by a clock that was set back since is asked all the same.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		pod, status := running("c", "1", corev1.Probe{
			InitialDelaySeconds: 5, PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}},
		})
		status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(time.Now().Add(time.Hour))
		p := New(Config{Changed: func(types.UID) {}, Runtime: execFunc(func(context.Context, string, []string) ([]byte, error) {
			asked.Add(1)
			return nil, nil
		})})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		defer func() { cancel(); <-done }()
		p.Set(pod, status)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if n := asked.Load(); n > 0 {
			t.Errorf("asked %d times before its delay was over", n)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if asked.Load() == 0 {
			t.Error("it is not asked")
		}
	})
}
