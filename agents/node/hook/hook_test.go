package hook

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

type execFunc func(ctx context.Context, command []string) ([]byte, error)

func (f execFunc) ExecSync(ctx context.Context, _ string, command []string, _ time.Duration) ([]byte, []byte, error) {
	out, err := f(ctx, command)
	return out, nil, err
}

func container(l *corev1.Lifecycle) Container {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "1"}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Lifecycle: l}}
	c := Container{Pod: pod, Spec: &pod.Spec.Containers[0], IPs: []string{"127.0.0.1"}}
	c.ID.ID = "id"
	return c
}

func recorded(r *record.FakeRecorder) []string {
	close(r.Events)
	var out []string
	for e := range r.Events {
		out = append(out, e)
	}
	return out
}

func TestPostStart(t *testing.T) {
	t.Parallel()
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host = r.Host
		if r.Header.Get("Authorization") != "" || !strings.HasPrefix(r.UserAgent(), "kube-lifecycle/") {
			t.Errorf("headers of a hook over plain HTTP: %v", r.Header)
		}
		w.WriteHeader(http.StatusInternalServerError) // which is an answer
	}))
	t.Cleanup(server.Close)
	address, _ := net.ResolveTCPAddr("tcp", strings.TrimPrefix(server.URL, "http://"))
	get := func(scheme corev1.URIScheme, port int) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
			Scheme: scheme, Path: "hook", Port: intstr.FromInt(port), HTTPHeaders: []corev1.HTTPHeader{{Name: "Authorization", Value: "secret"}},
		}}
	}
	plain := get("HTTP", address.Port)
	plain.HTTPGet.HTTPHeaders = nil
	const failed = "Warning FailedPostStartHook PostStartHook failed"
	for name, tc := range map[string]struct {
		handler *corev1.LifecycleHandler
		want    error
		events  []string
	}{
		"none":  {},
		"exec":  {handler: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}},
		"http":  {handler: plain},
		"sleep": {handler: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{}}},
		"https": {
			handler: get("HTTPS", address.Port),
			events:  []string{"Warning LifecycleHTTPFallback request to HTTPS lifecycle hook " + address.String() + " got HTTP response, retry with HTTP succeeded"},
		},
		"false": {
			handler: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"false"}}}, events: []string{failed},
			want: &podstatus.Waiting{Reason: "PostStartHookError", Message: `Exec lifecycle hook ([false]) for Container "c" in Pod "p_n(1)" failed - error: exit 1, message: "a secret"`},
		},
		"refused": {
			handler: get("HTTP", 1), events: []string{failed},
			want: &podstatus.Waiting{Reason: "PostStartHookError", Message: `HTTP lifecycle hook (hook) for Container "c" in Pod "p_n(1)" failed - error: Get "http://127.0.0.1:1/hook": dial tcp 127.0.0.1:1: connect: connection refused`},
		},
		"tcp": { // the API has it, and the kubelet does not
			handler: &corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(address.Port)}}, events: []string{failed},
			want: &podstatus.Waiting{Reason: "PostStartHookError"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := record.NewFakeRecorder(10)
			r := New(Config{Recorder: recorder, Log: slog.New(slog.DiscardHandler), Runtime: execFunc(func(_ context.Context, command []string) ([]byte, error) {
				if command[0] == "false" {
					return []byte("a secret"), errors.New("exit 1")
				}
				return nil, nil
			})})
			got := r.PostStart(t.Context(), container(&corev1.Lifecycle{PostStart: tc.handler}))
			if w := (*podstatus.Waiting)(nil); name == "tcp" && errors.As(got, &w) && strings.HasPrefix(w.Message, "Cannot run handler: invalid handler: ") {
				w.Message = "" // it has addresses in it
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if diff := cmp.Diff(tc.events, recorded(recorder)); diff != "" {
				t.Errorf("events: want -, got +:\n%s", diff)
			}
		})
	}
	if host != address.String() {
		t.Errorf("hooks asked %q, want the pod's address", host)
	}
}

func TestPreStop(t *testing.T) {
	t.Parallel()
	sleep := func(n int64) *corev1.Lifecycle {
		return &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: n}}}
	}
	run := &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{}}}
	failed := []string{"Warning FailedPreStopHook PreStopHook failed"}
	for name, tc := range map[string]struct {
		hook         *corev1.Lifecycle
		exec         time.Duration // how long a command runs until it fails
		grace, ended time.Duration
		want         time.Duration
		events       []string
	}{
		"none":            {hook: &corev1.Lifecycle{}, grace: time.Minute},
		"sleep":           {hook: sleep(5), grace: time.Minute, want: 5 * time.Second},
		"no time":         {hook: sleep(5)},
		"too long":        {hook: sleep(50), grace: 30 * time.Second, want: 30 * time.Second},
		"ended meanwhile": {hook: sleep(50), grace: 30 * time.Second, ended: 10 * time.Second, want: 10 * time.Second, events: failed},
		"fails":           {hook: run, grace: 30 * time.Second, exec: 3 * time.Second, want: 3 * time.Second, events: failed},
		"fails late":      {hook: run, grace: 30 * time.Second, exec: 40 * time.Second, want: 30 * time.Second, events: failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				recorder := record.NewFakeRecorder(10)
				r := New(Config{Recorder: recorder, Log: slog.New(slog.DiscardHandler), Runtime: execFunc(func(context.Context, []string) ([]byte, error) {
					time.Sleep(tc.exec)
					return nil, errors.New("exit 1")
				})})
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if tc.ended != 0 {
					time.AfterFunc(tc.ended, cancel)
				}
				if got := r.PreStop(ctx, container(tc.hook), tc.grace); got != tc.want {
					t.Errorf("took %v, want %v", got, tc.want)
				}
				r.Wait()
				if diff := cmp.Diff(tc.events, recorded(recorder)); diff != "" {
					t.Errorf("events: want -, got +:\n%s", diff)
				}
			})
		})
	}
}
