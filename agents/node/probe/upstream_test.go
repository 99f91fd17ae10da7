package probe

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/prober"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
	kubeletstatus "k8s.io/kubernetes/pkg/kubelet/status"
	"k8s.io/utils/exec"
	"k8s.io/utils/ptr"
)

// answers are given by the clock, so that two probers that ask at the same moments hear the same.
type answers struct {
	seed uint64
	mu   sync.Mutex
	asks []string
}

func (a *answers) ExecSync(_ context.Context, id string, command []string, _ time.Duration) ([]byte, []byte, error) {
	now := time.Now()
	a.mu.Lock()
	a.asks = append(a.asks, fmt.Sprint(now.UnixNano(), id, command))
	a.mu.Unlock()
	h := fnv.New64()
	_, _ = fmt.Fprint(h, a.seed, id, command, now.Unix()/4)
	r := rand.New(rand.NewPCG(h.Sum64(), 1))
	longest := 3 * time.Second // and so longer than a period
	if command[1] == "readiness" {
		longest = 300 * time.Millisecond // or chance decides what upstream does when it is triggered meanwhile
	}
	if r.IntN(3) == 0 {
		time.Sleep(time.Duration(r.Int64N(int64(longest))))
	}
	switch r.IntN(6) {
	case 0, 1, 2:
		return []byte("fine"), nil, nil
	case 3:
		return nil, nil, errors.New("the runtime is not there")
	default:
		return []byte("out"), []byte("err"), exec.CodeExitError{Code: 1, Err: errors.New("exit")}
	}
}

func (a *answers) RunInContainer(ctx context.Context, id kubecontainer.ContainerID, command []string, timeout time.Duration) ([]byte, error) {
	stdout, stderr, err := a.ExecSync(ctx, id.ID, command, timeout)
	return append(stdout, stderr...), err
}

// statuses is the part of upstream's manager of statuses that probes look at.
type statuses struct {
	kubeletstatus.Manager
	mu     sync.Mutex
	status corev1.PodStatus
}

func (s *statuses) GetPodStatus(types.UID) (corev1.PodStatus, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status, true
}

// moments are what was heard, with the time.
type moments struct {
	record.EventRecorderLogger
	mu    sync.Mutex
	lines []string
}

func (m *moments) add(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	line := fmt.Sprint(time.Now().UnixNano(), " ", fmt.Sprintf(format, args...))
	m.lines = append(m.lines, line)
}

func (m *moments) sorted(compact bool) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	lines := slices.Sorted(slices.Values(m.lines))
	if compact {
		lines = slices.Compact(lines)
	}
	return lines
}

func (m *moments) WithLogger(logr.Logger) record.EventRecorderLogger { return m }

func (m *moments) Eventf(about runtime.Object, kind, reason, format string, args ...any) {
	ref := about.(*corev1.ObjectReference)
	m.add("%s %s %s %s", ref.FieldPath, kind, reason, fmt.Sprintf(format, args...))
}

func randomPod(r *rand.Rand) *corev1.Pod {
	probe := func(container, kind string) *corev1.Probe {
		if r.IntN(3) == 0 {
			return nil
		}
		p := &corev1.Probe{
			InitialDelaySeconds: int32(r.IntN(3) * r.IntN(4)), PeriodSeconds: int32(1 + r.IntN(5)), TimeoutSeconds: 1,
			SuccessThreshold: 1, FailureThreshold: int32(1 + r.IntN(3)),
		}
		if kind == "readiness" {
			p.SuccessThreshold = int32(1 + r.IntN(2))
		}
		p.Exec = &corev1.ExecAction{Command: []string{container, kind}}
		return p
	}
	container := func(name string) corev1.Container {
		return corev1.Container{
			Name: name, StartupProbe: probe(name, "startup"), ReadinessProbe: probe(name, "readiness"), LivenessProbe: probe(name, "liveness"),
		}
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "1"}}
	pod.Spec.Containers = []corev1.Container{container("a"), container("b")}
	sidecar := container("s")
	sidecar.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	pod.Spec.InitContainers = []corev1.Container{{Name: "once"}, sidecar}
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	return pod
}

// change lets containers begin, end and begin again.
func change(r *rand.Rand, status *corev1.PodStatus, n int) {
	for _, list := range [][]corev1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses} {
		for i := range list {
			c := &list[i]
			switch r.IntN(8) {
			case 0, 1:
				if c.State.Running == nil {
					c.ContainerID = fmt.Sprintf("fake://%s%d", c.Name, n)
					c.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
				}
			case 2:
				if c.State.Running != nil {
					c.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(r.IntN(2))}}
				}
			}
		}
	}
}

// report is what the agent says of a container that runs, as podstatus does.
func report(p *Prober, pod *corev1.Pod, status *corev1.PodStatus) {
	found := p.Status(pod.UID)
	set := func(c *corev1.ContainerStatus, spec *corev1.Container) {
		f := found[kubecontainer.ParseContainerID(c.ContainerID).ID]
		started := c.State.Running != nil && (f.Startup != nil && *f.Startup || f.Startup == nil && spec.StartupProbe == nil)
		c.Started = &started
		c.Ready = started && (f.Readiness != nil && *f.Readiness || spec.ReadinessProbe == nil)
	}
	for i := range status.ContainerStatuses {
		set(&status.ContainerStatuses[i], &pod.Spec.Containers[i])
	}
	set(&status.InitContainerStatuses[1], &pod.Spec.InitContainers[1])
}

// TestLikeKubelet has upstream's prober and ours probe the same pods: they ask the same at the same moments, and come to the same ends.
func TestLikeKubelet(t *testing.T) {
	t.Parallel()
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) { likeKubelet(t, seed) })
		if t.Failed() {
			return
		}
	}
}

func likeKubelet(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 2))
	ctx, cancel := context.WithCancel(t.Context())
	var going sync.WaitGroup
	defer going.Wait()
	defer cancel()

	theirs, ours := &answers{seed: seed}, &answers{seed: seed}
	theirEvents, ourEvents := &moments{}, &moments{}
	theirNews, ourNews := &moments{}, &moments{}
	managers := map[kind]results.Manager{liveness: results.NewManager(), readiness: results.NewManager(), startup: results.NewManager()}
	for k, m := range managers {
		going.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case u := <-m.Updates():
					if k != liveness || u.Result == results.Failure { // the kubelet listens to nothing else
						theirNews.add("%s", u.PodUID)
					}
				}
			}
		})
	}
	status := &statuses{}
	upstream := prober.NewManager(status, managers[liveness], managers[readiness], managers[startup], theirs, theirEvents)
	p := New(Config{Runtime: ours, Recorder: ourEvents, Log: slog.New(slog.DiscardHandler), Changed: func(uid types.UID) { ourNews.add("%s", uid) }})
	going.Go(func() { p.Run(ctx) })
	time.Sleep(time.Minute) // neither has just begun

	pod := randomPod(r)
	state := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1"}
	for _, c := range pod.Spec.Containers {
		state.ContainerStatuses = append(state.ContainerStatuses, corev1.ContainerStatus{Name: c.Name})
	}
	for _, c := range pod.Spec.InitContainers {
		state.InitContainerStatuses = append(state.InitContainerStatuses, corev1.ContainerStatus{Name: c.Name})
	}
	compare := func() {
		for what, pair := range map[string][2][]string{
			"asked":  {slices.Sorted(slices.Values(theirs.asks)), slices.Sorted(slices.Values(ours.asks))},
			"events": {theirEvents.sorted(false), ourEvents.sorted(false)},
			"news":   {theirNews.sorted(true), ourNews.sorted(true)},
		} {
			if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
				t.Fatalf("seed %d: %s: kubelet -, agent +:\n%s", seed, what, diff)
			}
		}
	}
	terminating := false
	for n := range 40 {
		if n == 30 && r.IntN(2) == 0 {
			terminating = true
			compare() // before probes are stopped that are under way
			upstream.StopLivenessAndStartup(pod)
			p.Terminate(pod.UID)
			synctest.Wait()
		}
		if !terminating {
			change(r, &state, n)
		}
		their, our := state.DeepCopy(), state.DeepCopy()
		if !terminating { // nobody asks upstream's whether they have started then
			status.mu.Lock()
			if n == 0 {
				upstream.AddPod(ctx, pod)
			}
			upstream.UpdatePodStatus(ctx, pod, their)
			status.status = *their
			status.mu.Unlock()
			report(p, pod, our)
			their.InitContainerStatuses[0], our.InitContainerStatuses[0] = corev1.ContainerStatus{}, corev1.ContainerStatus{}
			if diff := cmp.Diff(their, our); diff != "" {
				t.Fatalf("seed %d, step %d: statuses: kubelet -, agent +:\n%s", seed, n, diff)
			}
			p.Set(pod, our)
		}
		synctest.Wait()
		check(t, seed, n, p, managers, &state, terminating)
		time.Sleep(time.Duration(r.Int64N(int64(4 * time.Second))))
		synctest.Wait()
		check(t, seed, n, p, managers, &state, terminating)
	}
	if !terminating {
		compare()
	}
	upstream.RemovePod(pod)
	p.Forget(pod.UID)
	time.Sleep(time.Minute) // upstream's end when they like
	if found := p.Status(pod.UID); len(found) != 0 {
		t.Errorf("forgotten pod has %v", found)
	}
}

// check compares the results of all containers that there are.
func check(t *testing.T, seed uint64, n int, p *Prober, managers map[kind]results.Manager, state *corev1.PodStatus, terminating bool) {
	t.Helper()
	their := map[string]string{}
	for _, c := range slices.Concat(state.ContainerStatuses, state.InitContainerStatuses) {
		id := kubecontainer.ParseContainerID(c.ContainerID)
		for k, m := range managers {
			if result, ok := m.Get(id); ok && id.ID != "" && (!terminating || k == readiness) {
				their[id.ID+" "+k.String()] = result.String()
			}
		}
	}
	our := map[string]string{}
	for id, found := range p.Plan("1") {
		if found.Liveness != nil {
			our[id+" Liveness"] = found.Liveness.String()
		}
		if found.Startup != nil {
			our[id+" Startup"] = found.Startup.String()
		}
	}
	for id, found := range p.Status("1") {
		if found.Readiness != nil {
			our[id+" Readiness"] = map[bool]string{true: "Success", false: "Failure"}[*found.Readiness]
		}
		if s := our[id+" Startup"]; found.Startup != nil && *found.Startup != (s == "Success") {
			t.Errorf("seed %d, step %d: %s started %v, plan has %s", seed, n, id, *found.Startup, s)
		}
	}
	for key := range our {
		if terminating && !strings.HasSuffix(key, "Readiness") {
			delete(our, key)
		}
	}
	for key := range our { // those of attempts that the pod's status has forgotten already
		if _, ok := their[key]; !ok && !current(state, key) {
			delete(our, key)
		}
	}
	if diff := cmp.Diff(their, our); diff != "" {
		t.Fatalf("seed %d, step %d: results: kubelet -, agent +:\n%s", seed, n, diff)
	}
}

func current(state *corev1.PodStatus, key string) bool {
	return slices.ContainsFunc(slices.Concat(state.ContainerStatuses, state.InitContainerStatuses), func(c corev1.ContainerStatus) bool {
		id := kubecontainer.ParseContainerID(c.ContainerID).ID
		return id != "" && len(key) > len(id) && key[:len(id)+1] == id+" "
	})
}
