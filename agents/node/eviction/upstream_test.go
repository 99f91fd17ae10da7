package eviction

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
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
	"k8s.io/klog/v2"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	upstream "k8s.io/kubernetes/pkg/kubelet/eviction"
	"k8s.io/kubernetes/pkg/kubelet/eviction/api"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// scenario is a node over some minutes.
type scenario struct {
	policy Policy
	layout Layout
	starve api.Signal // of what there is too little
	free   []float64  // of that, in each ten seconds
	helps  bool       // removing what nobody uses frees enough for half a minute
	pods   []*corev1.Pod
	stats  []statsapi.PodStats
}

// world is a node that a manager looks after, and what the manager does.
type world struct {
	*scenario
	began  time.Time
	events *record.FakeRecorder

	mu    sync.Mutex
	live  []*corev1.Pod
	freed time.Time
	done  bool
	log   []string
}

func (s *scenario) world() *world {
	return &world{scenario: s, began: time.Now(), events: record.NewFakeRecorder(10000), live: slices.Clone(s.pods)}
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%v ", time.Since(w.began))+fmt.Sprintf(format, args...))
}

// active are the pods; when the test is over it ends whoever asks, as upstream's manager has no other end.
func (w *world) active() []*corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		runtime.Goexit()
	}
	return slices.Clone(w.live)
}

func (w *world) kill(pod *corev1.Pod, grace *int64, reason, message string, c *corev1.PodCondition) {
	w.say("killed %s in %ds: %s %s", pod.Name, *grace, reason, message)
	if c != nil {
		w.say("condition %s=%s %s %s %d", c.Type, c.Status, c.Reason, c.Message, c.ObservedGeneration)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live = slices.DeleteFunc(w.live, func(p *corev1.Pod) bool { return p.UID == pod.UID })
}

func (w *world) removed(what string) {
	w.say("removed unused %s", what)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.freed = time.Now()
}

const gib = 1 << 30

// measure is what the node has now.
func (w *world) measure(pods bool) *statsapi.Summary {
	now := metav1.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	step := int(time.Since(w.began) / (10 * time.Second))
	low := w.free[min(step, len(w.free)-1)]
	if w.helps && !w.freed.IsZero() && time.Since(w.freed) < 30*time.Second {
		low = 0.9
	}
	free := func(names ...api.Signal) float64 {
		if slices.Contains(names, w.starve) {
			return low
		}
		return 0.9
	}
	part := func(f float64) *uint64 { return ptr.To(uint64(100 * gib * f)) }
	memory := func(name api.Signal) *statsapi.MemoryStats {
		f := free(name)
		return &statsapi.MemoryStats{Time: now, AvailableBytes: part(f), WorkingSetBytes: part(1 - f)}
	}
	disk := func(bytes, files []api.Signal) *statsapi.FsStats {
		return &statsapi.FsStats{Time: now, AvailableBytes: part(free(bytes...)), CapacityBytes: part(1), InodesFree: part(free(files...)), Inodes: part(1)}
	}
	// What is one file system has too little together.
	node, nodeFiles := []api.Signal{api.SignalNodeFsAvailable}, []api.Signal{api.SignalNodeFsInodesFree}
	images, imageFiles := []api.Signal{api.SignalImageFsAvailable}, []api.Signal{api.SignalImageFsInodesFree}
	containers, containerFiles := node, nodeFiles
	if w.layout.Images && !w.layout.Split {
		containers, containerFiles = images, imageFiles
	}
	s := &statsapi.Summary{Node: statsapi.NodeStats{
		Memory:           memory(api.SignalMemoryAvailable),
		SystemContainers: []statsapi.ContainerStats{{Name: statsapi.SystemContainerPods, Memory: memory(api.SignalAllocatableMemoryAvailable)}},
		Fs:               disk(node, nodeFiles),
		Runtime:          &statsapi.RuntimeStats{ImageFs: disk(images, imageFiles), ContainerFs: disk(containers, containerFiles)},
		Rlimit: &statsapi.RlimitStats{
			Time: now, MaxPID: ptr.To[int64](10000), NumOfRunningProcesses: ptr.To(int64(10000 * (1 - free(api.SignalPIDAvailable)))),
		},
	}}
	if pods {
		s.Pods = slices.Clone(w.stats)
	}
	return s
}

// upstreamWorld is the world as upstream's manager sees it.
type upstreamWorld struct{ *world }

func (w upstreamWorld) Get(context.Context, bool) (*statsapi.Summary, error) {
	return w.measure(true), nil
}

func (w upstreamWorld) GetCPUAndMemoryStats(context.Context) (*statsapi.Summary, error) {
	return w.measure(true), nil
}

func (w upstreamWorld) HasDedicatedImageFs(context.Context) (bool, error) {
	return w.layout.Images, nil
}

func (w upstreamWorld) HasDedicatedContainerFs(context.Context) (bool, error) {
	return w.layout.Split, nil
}

func (w upstreamWorld) DeleteUnusedImages(context.Context) error {
	w.removed("images")
	return nil
}

func (w upstreamWorld) DeleteAllUnusedContainers(context.Context) error {
	w.removed("containers")
	return nil
}

func (w upstreamWorld) killPod(pod *corev1.Pod, _ bool, grace *int64, set func(*corev1.PodStatus)) error {
	status := pod.Status.DeepCopy()
	set(status)
	i := slices.IndexFunc(status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget })
	var c *corev1.PodCondition
	if i >= 0 {
		c = &status.Conditions[i]
	}
	w.kill(pod, grace, status.Reason, status.Message, c)
	return nil
}

// watch writes down every ten seconds what the node is under pressure of, and whom it refuses.
func (w *world) watch(pressure func() []corev1.NodeConditionType, admit lifecycle.PodAdmitHandler) {
	time.Sleep(5500 * time.Millisecond)
	for range w.free {
		var refused []string
		for _, pod := range w.pods {
			if result := admit.Admit(&lifecycle.PodAdmitAttributes{Pod: pod}); !result.Admit {
				refused = append(refused, pod.Name+": "+result.Reason+" "+result.Message)
			}
		}
		w.say("pressure %v, refuses %v", pressure(), refused)
		time.Sleep(10 * time.Second)
	}
}

func (w *world) all() []string {
	close(w.events.Events)
	for e := range w.events.Events {
		w.log = append(w.log, e)
	}
	return w.log
}

func (s *scenario) upstreams(t *testing.T) (log []string) {
	synctest.Test(t, func(t *testing.T) {
		w := s.world()
		of := upstreamWorld{w}
		cfg := upstream.Config{PressureTransitionPeriod: s.policy.Transition, MaxPodGracePeriodSeconds: s.policy.MaxGrace, Thresholds: slices.Clone(s.policy.Thresholds)}
		manager, admit := upstream.NewManager(of, cfg, of.killPod, of, of, w.events, &corev1.ObjectReference{}, clock.RealClock{}, s.policy.Limits)
		manager.Start(klog.NewContext(t.Context(), logr.Discard()), of, w.active, func(*corev1.Pod) bool { return true }, 10*time.Second)
		w.watch(func() (under []corev1.NodeConditionType) {
			for c, is := range map[corev1.NodeConditionType]bool{
				corev1.NodeMemoryPressure: manager.IsUnderMemoryPressure(), corev1.NodeDiskPressure: manager.IsUnderDiskPressure(), corev1.NodePIDPressure: manager.IsUnderPIDPressure(),
			} {
				if is {
					under = append(under, c)
				}
			}
			return under
		}, admit)
		w.mu.Lock()
		w.done = true
		w.mu.Unlock()
		time.Sleep(time.Minute)
		log = w.all()
	})
	return log
}

func (s *scenario) ours(t *testing.T) (log []string) {
	synctest.Test(t, func(t *testing.T) {
		w := s.world()
		m := New(Config{
			Policy:  s.policy,
			Measure: func(_ context.Context, pods bool) (*statsapi.Summary, error) { return w.measure(pods), nil },
			Layout:  func(context.Context) (Layout, error) { return s.layout, nil },
			Pods:    w.active,
			Kill: func(_ context.Context, pod *corev1.Pod, why *podstatus.Evicted, grace *int64) error {
				w.kill(pod, grace, why.Reason, why.Message, why.Condition)
				return nil
			},
			Finished:         func(types.UID) bool { return true },
			RemoveContainers: func(context.Context) error { w.removed("containers"); return nil },
			RemoveImages:     func(context.Context) error { w.removed("images"); return nil },
			Node:             &corev1.ObjectReference{}, Events: w.events, Log: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		w.watch(m.Pressure, m)
		cancel()
		running.Wait()
		log = w.all()
	})
	return log
}

// TestUpstream has upstream's manager and ours look after the same nodes, which run out of one thing, and back.
func TestUpstream(t *testing.T) {
	t.Parallel()
	counts := map[string]int{}
	for seed := range uint64(300) {
		s := random(t, rand.New(rand.NewPCG(seed, 1)))
		want, got := s.upstreams(t), s.ours(t)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d, %+v, %s: upstream's (-), ours (+):\n%s", seed, s.layout, s.starve, diff)
		}
		all := strings.Join(got, "\n")
		for _, what := range []string{
			"killed", "removed unused images", "removed unused containers", "exceeds the limit", "exceeds the total", "exceeded its local", "MemoryPressure", "DiskPressure", "PIDPressure",
			"in 1s", "in 20s", "in 7s", "was using", "refuses []", "Evicted The node had",
		} {
			if strings.Contains(all, what) {
				counts[what]++
			}
		}
	}
	for what, n := range counts {
		t.Logf("%s: %d", what, n)
	}
	if len(counts) != 15 {
		t.Errorf("not all happened that can: %v", counts)
	}
}
