package shutdown

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	"k8s.io/kubernetes/pkg/kubelet/nodeshutdown/systemd"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/pause"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// logind is a fake, which writes down what it is asked for.
type logind struct {
	mu      sync.Mutex
	began   time.Time
	log     []string
	delay   time.Duration
	locks   int
	news    chan bool
	hangUp  func()
	deaf    bool // does not read its configuration
	failing int  // so many dials
}

func (l *logind) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, fmt.Sprintf("%v ", time.Since(l.began))+fmt.Sprintf(format, args...))
}

func (l *logind) CurrentInhibitDelay() (time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delay, nil
}

func (l *logind) OverrideInhibitDelay(d time.Duration) error {
	l.say("delay %v", d)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.deaf {
		l.delay = d
	}
	return nil
}

func (l *logind) ReloadLogindConf() error { l.say("reload"); return nil }

func (l *logind) InhibitShutdown() (systemd.InhibitLock, error) {
	l.mu.Lock()
	l.locks++
	lock := l.locks
	l.mu.Unlock()
	l.say("lock %d", lock)
	return systemd.InhibitLock(lock), nil
}

func (l *logind) ReleaseInhibitLock(lock systemd.InhibitLock) error {
	l.say("release %d", lock)
	return nil
}

func (l *logind) MonitorShutdown(logr.Logger) (<-chan bool, error) { return l.news, nil }

func (l *logind) dial(context.Context) (Logind, func() error, error) {
	if l.failing > 0 {
		l.failing--
		return nil, nil, errors.New("nobody is there")
	}
	news := make(chan bool, 1)
	l.news, l.hangUp = news, sync.OnceFunc(func() { close(news) })
	hangUp := l.hangUp
	return l, func() error { hangUp(); return nil }, nil
}

func pod(name string, priority *int32, grace int64) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Generation: 3},
		Spec:       corev1.PodSpec{Priority: priority, TerminationGracePeriodSeconds: &grace},
	}
}

// on runs a manager, and ends it after do.
func on(t *testing.T, l *logind, periods []Period, pods []*corev1.Pod, ends func(name string) time.Duration, do func(*Manager)) (log, events []string) {
	synctest.Test(t, func(t *testing.T) {
		l.began = time.Now()
		recorder := record.NewFakeRecorder(100)
		var mu sync.Mutex
		over := map[types.UID]time.Time{}
		m := New(Config{
			Periods: periods, Dial: l.dial, Node: &corev1.ObjectReference{}, Events: recorder, Log: slog.New(slog.DiscardHandler),
			Pods:    func() []*corev1.Pod { return pods },
			Changed: func() { l.say("changed") },
			Kill: func(ctx context.Context, pod *corev1.Pod, why *podstatus.Evicted, grace *int64) error {
				l.say("kill %s in %ds: %s %s %s=%s %s %d", pod.Name, *grace, why.Reason, why.Message, why.Condition.Type, why.Condition.Status, why.Condition.Reason, why.Condition.ObservedGeneration)
				if !pause.For(ctx, ends(pod.Name)) {
					return ctx.Err()
				}
				mu.Lock()
				defer mu.Unlock()
				over[pod.UID] = time.Now().Add(time.Second) // what it used takes a moment
				return nil
			},
			Finished: func(uid types.UID) bool {
				mu.Lock()
				defer mu.Unlock()
				at, dead := over[uid]
				return dead && !time.Now().Before(at)
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		do(m)
		cancel()
		running.Wait()
		close(recorder.Events)
		for e := range recorder.Events {
			events = append(events, e)
		}
		log = l.log
	})
	return log, events
}

// at sorts what happened at the same time.
func at(log []string) []string {
	slices.SortStableFunc(log, func(a, b string) int {
		if x, y := strings.Fields(a)[0], strings.Fields(b)[0]; x != y || !strings.Contains(a, "kill") || !strings.Contains(b, "kill") {
			return 0
		}
		return strings.Compare(a, b)
	})
	return log
}

// TestShutdown: pods end by their priorities, the machine waits for them, and takes none meanwhile.
func TestShutdown(t *testing.T) {
	t.Parallel()
	pods := []*corev1.Pod{
		pod("below", ptr.To[int32](-5), 5), pod("none", nil, 60), pod("between", ptr.To[int32](100), 1), pod("critical", ptr.To[int32](2000000001), 60),
	}
	ends := func(name string) time.Duration {
		return map[string]time.Duration{"below": time.Second, "none": 2 * time.Second, "between": time.Second, "critical": time.Hour}[name]
	}
	const said = "Terminated Pod was terminated in response to imminent node shutdown. DisruptionTarget=True TerminationByKubelet 3"
	l := &logind{delay: 5 * time.Second}
	periods, err := Periods(30*time.Second, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	log, events := on(t, l, periods, pods, ends, func(m *Manager) {
		time.Sleep(time.Minute)
		if got := m.Admit(&lifecycle.PodAdmitAttributes{}); m.Err() != nil || !got.Admit {
			t.Errorf("before: %v, %+v", m.Err(), got)
		}
		synctest.Wait()
		l.news <- true
		time.Sleep(5 * time.Second)
		want := lifecycle.PodAdmitResult{Reason: "NodeShutdown", Message: "Pod was rejected as the node is shutting down."}
		if diff := cmp.Diff(want, m.Admit(&lifecycle.PodAdmitAttributes{})); diff != "" || fmt.Sprint(m.Err()) != "node is shutting down" {
			t.Errorf("meanwhile: %v\n%s", m.Err(), diff)
		}
		time.Sleep(time.Minute)
		l.news <- false
		time.Sleep(time.Second)
		if m.Err() != nil {
			t.Error(m.Err())
		}
	})
	want := []string{
		"0s delay 30s", "0s reload", "0s lock 1", "1m0s changed", "1m0s kill below in 5s: " + said, "1m0s kill between in 1s: " + said, "1m0s kill none in 20s: " + said,
		"1m3s kill critical in 10s: " + said, "1m13s release 1", "2m5s changed", "2m5s lock 2", "2m6s release 2",
	}
	if diff := cmp.Diff(want, at(log)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"Normal Shutdown Shutdown manager detected shutdown event", "Normal Shutdown Shutdown manager detected shutdown cancellation"}, events); diff != "" {
		t.Error(diff)
	}
}

// TestRetry: logind that is not there, goes away or does not listen is tried again.
func TestRetry(t *testing.T) {
	t.Parallel()
	l := &logind{delay: time.Minute, failing: 2}
	log, _ := on(t, l, []Period{{0, time.Minute}}, nil, nil, func(*Manager) {
		time.Sleep(10 * time.Second)
		synctest.Wait()
		l.hangUp()
		time.Sleep(10 * time.Second)
	})
	if diff := cmp.Diff([]string{"3s lock 1", "10s release 1", "11s lock 2", "20s release 2"}, log); diff != "" {
		t.Error(diff)
	}
	log, _ = on(t, &logind{deaf: true}, []Period{{0, time.Minute}}, nil, nil, func(*Manager) { time.Sleep(5 * time.Second) })
	if diff := cmp.Diff([]string{"0s delay 1m0s", "0s reload", "2.5s delay 1m0s", "2.5s reload"}, log); diff != "" {
		t.Error(diff)
	}
}

func TestPeriods(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		all, critical time.Duration
		want          []Period
		wrong         bool
	}{
		{},
		{all: time.Minute, want: []Period{{0, time.Minute}, {2000000000, 0}}},
		{all: time.Minute, critical: time.Minute, want: []Period{{0, 0}, {2000000000, time.Minute}}},
		{all: time.Minute, critical: 20 * time.Second, want: []Period{{0, 40 * time.Second}, {2000000000, 20 * time.Second}}},
		{critical: time.Minute, wrong: true},
		{all: time.Millisecond, wrong: true},
		{all: -time.Second, critical: -time.Minute, wrong: true},
	} {
		got, err := Periods(tc.all, tc.critical)
		if diff := cmp.Diff(tc.want, got); diff != "" || (err != nil) != tc.wrong {
			t.Errorf("%v, %v: %v\n%s", tc.all, tc.critical, err, diff)
		}
	}
}

func TestGrouped(t *testing.T) {
	t.Parallel()
	var pods []*corev1.Pod
	for _, n := range []int32{-1, 0, 5, 10, 19, 20, 1000} {
		pods = append(pods, pod(fmt.Sprint(n), &n, 0))
	}
	var got []string
	for _, group := range grouped(sorted([]Period{{20, 1}, {0, 2}, {10, 3}}), pods) {
		var names []string
		for _, p := range group {
			names = append(names, p.Name)
		}
		got = append(got, strings.Join(names, " "))
	}
	if diff := cmp.Diff([]string{"-1 0 5", "10 19", "20 1000"}, got); diff != "" {
		t.Error(diff)
	}
}
