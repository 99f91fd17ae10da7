// Package worker runs pods. Each pod has a worker, which sees to it that the runtime has what plan.Decide says, that the pod ends when
// it shall, that nothing is left of it, and that the API hears how it fares.
//
// A pod is known by its UID, and its life goes one way: it is synced; it terminates, which is when its containers are stopped; it is
// terminated, and what it used is given back; it is finished. A pod that is finished is remembered as long as the API has it, so that
// it never runs again. All else is rebuilt from what the runtime reports when the agent starts anew.
package worker

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// Times between two looks at a pod that nothing is heard of.
const (
	resync       = time.Minute      // all is as it should be
	retry        = 10 * time.Second // something failed
	networkRetry = time.Second      // the network was not ready
	housekeeping = 10 * time.Second // pods that nobody wants
)

// Config is what workers need.
type Config struct {
	Node *cri.Node
	// Links is a directory of links to containers' logs, for those who collect them; "": none are made.
	Links string
	// RuntimeName is what containers' ids begin with.
	RuntimeName string
	Runtime     Runtime
	Observer    Observer
	Images      Images
	Environment Environment
	Volumes     Volumes
	Objects     Objects
	Hooks       Hooks
	Probes      Probes
	// Cgroups are pods' own; nil: the runtime puts containers where it likes.
	Cgroups Cgroups
	// Givens are remembered for the next agent; nil: they are forgotten.
	Givens Givens
	// Handler is the runtime's handler of a pod's RuntimeClass.
	Handler func(context.Context, *corev1.Pod) (string, error)
	// RecursiveReadOnly tells whether a handler can mount so.
	RecursiveReadOnly func(handler string) bool
	// Users is the pod's part of the node's user IDs; nil: the pod has the node's.
	Users func(pod *corev1.Pod, handler string) (*Users, error)
	// NetworkReady says why pods cannot have a network of their own yet; nil: they can.
	NetworkReady func() error
	// NodeIPs are the node's addresses, the primary one first.
	NodeIPs func() []netip.Addr
	// API is the pod as the API has it: of a static pod, its mirror. nil: the API is not known to have it.
	API func(types.UID) *corev1.Pod
	// Settled is called when a pod has come to its end, or has other resources than before: there may be room for another.
	Settled func()
	// Meter counts what is done; nil: nobody does.
	Meter  Meter
	Client kubernetes.Interface
	Events record.EventRecorder
	Log    *slog.Logger
}

// Workers are those of a node.
type Workers struct {
	Config
	// Status is what the API is told.
	Status *Writer

	began  time.Time
	check  chan struct{}
	gate   gate
	wg     sync.WaitGroup
	looped atomic.Int64 // when the loop last came round, in nanoseconds

	mu     sync.Mutex
	start  func(*worker) // nil: not running
	synced bool          // whoever is not known is not wanted
	pods   map[types.UID]*worker
	static map[string]types.UID // by full name: only one of them runs
}

// New makes them; nothing is done before Run.
func New(cfg Config) *Workers {
	w := &Workers{
		Config: cfg, began: time.Now(), check: make(chan struct{}, 1), gate: newGate(),
		pods: map[types.UID]*worker{}, static: map[string]types.UID{},
	}
	w.Status = newWriter(cfg.Client, cfg.API, w.mayRun, cfg.Log)
	w.Status.meter = cfg.Meter
	return w
}

// Run works until ctx ends. Pods run on after it.
func (w *Workers) Run(ctx context.Context) error {
	w.mu.Lock()
	w.start = func(p *worker) { w.wg.Go(func() { p.run(ctx) }) }
	for _, p := range w.pods {
		w.start(p)
	}
	w.mu.Unlock()
	w.wg.Go(func() { w.Status.run(ctx) })
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		w.looped.Store(time.Now().UnixNano())
		select {
		case <-ctx.Done():
			w.mu.Lock()
			w.start = func(*worker) {}
			w.mu.Unlock()
			w.wg.Wait()
			return nil
		case <-tick.C:
		case <-w.check:
		}
		w.orphans(ctx)
	}
}

// Looped is when the workers' own loop last came round, which it does every few seconds; zero: it does not run yet.
func (w *Workers) Looped() time.Time {
	if at := w.looped.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// Set says that the pod is wanted, as it was admitted, or that it changed. It does not wait for anything.
func (w *Workers) Set(pod *corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pods[pod.UID]
	switch {
	case p == nil:
		w.add(&worker{Workers: w, uid: pod.UID, want: pod, name: fullName(pod)})
		p = w.pods[pod.UID]
	case p.gone || p.want == nil: // an earlier one of the same UID comes to its end first
		p.again = pod
		return
	default:
		p.want = pod
	}
	if p.phase == Finished {
		return
	}
	if pod.DeletionTimestamp != nil || over(pod.Status.Phase) {
		p.end(nil)
	}
	p.poke()
}

// Gone says that nobody wants the pod any more: it is ended, if it still runs, and forgotten.
func (w *Workers) Gone(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pods[uid]
	if p == nil {
		w.Status.Forget(uid)
		return
	}
	p.again = nil
	if p.gone {
		return
	}
	p.gone = true
	if p.phase == Finished {
		w.retire(p)
		return
	}
	p.end(nil)
	p.poke()
}

// Kill ends a pod that the node cannot keep. The channel is closed when its containers have stopped. grace: less than the pod has; nil:
// as much as it has.
func (w *Workers) Kill(uid types.UID, why *podstatus.Evicted, grace *int64) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pods[uid]
	if p == nil || p.phase >= Terminated {
		stopped := make(chan struct{})
		close(stopped)
		return stopped
	}
	p.evicted = why
	p.end(grace)
	p.poke()
	return p.stopped
}

// Changed says that the runtime, or a probe, has something new about a pod.
func (w *Workers) Changed(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pods[uid]; p != nil {
		p.poke()
		return
	}
	select {
	case w.check <- struct{}{}:
	default:
	}
}

// Synced says that all pods that are wanted have been Set: from now on others are stopped and removed.
func (w *Workers) Synced() {
	w.mu.Lock()
	w.synced = true
	w.mu.Unlock()
	w.Changed("")
}

// Phase is where in its life a pod is.
type Phase int

// Phases of a pod's life.
const (
	Syncing Phase = iota
	Terminating
	Terminated
	Finished
)

// Phase is the pod's; false: there is no such pod.
func (w *Workers) Phase(uid types.UID) (Phase, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pods[uid]; p != nil {
		return p.phase, true
	}
	return 0, false
}

// Ending tells whether the pod's end was asked for.
func (w *Workers) Ending(uid types.UID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pods[uid]
	return p != nil && p.ending
}

// Active are pods whose containers run, or may: they take up room.
func (w *Workers) Active() []*corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	var active []*corev1.Pod
	for _, p := range w.pods {
		if p.want != nil && p.phase < Terminated {
			active = append(active, p.want)
		}
	}
	return active
}

// mayRun tells whether a pod's containers may run. Before all pods are known, any may.
func (w *Workers) mayRun(uid types.UID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pods[uid]; p != nil {
		return p.phase < Terminated
	}
	return !w.synced
}

// Known tells whether something of the pod may be in use: volumes and directories of others can be removed.
func (w *Workers) Known(uid types.UID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.synced || w.pods[uid] != nil
}

func (w *Workers) add(p *worker) {
	p.wake, p.stopped, p.seen = make(chan struct{}, 1), make(chan struct{}), time.Now()
	p.log = w.Log.With("pod", p.name, "podUID", p.uid)
	w.pods[p.uid] = p
	if w.start != nil {
		w.start(p)
	}
}

// retire removes what is left of a pod that is finished and that nobody has any more, and then forgets it.
func (w *Workers) retire(p *worker) {
	w.wg.Go(func() {
		p.erase()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.forget(p)
	})
}

// forget lets another pod have its UID.
func (w *Workers) forget(p *worker) {
	delete(w.pods, p.uid)
	w.Status.Forget(p.uid)
	if p.again != nil {
		w.add(&worker{Workers: w, uid: p.uid, want: p.again, name: fullName(p.again)})
		w.pods[p.uid].poke()
	}
}

// release gives a static pod's name to whoever waits for it.
func (w *Workers) release(p *worker) {
	if w.static[p.name] != p.uid {
		return
	}
	delete(w.static, p.name)
	for _, other := range w.pods {
		if other.name == p.name {
			other.poke()
		}
	}
}

// orphans ends what the runtime has and nobody wants.
func (w *Workers) orphans(ctx context.Context) {
	w.mu.Lock()
	synced := w.synced
	w.mu.Unlock()
	if !synced {
		return
	}
	for _, found := range w.Observer.Pods() {
		w.mu.Lock()
		if w.pods[found.UID] == nil && found.UID != "" {
			p := &worker{Workers: w, uid: found.UID, name: found.Namespace + "/" + found.Name, gone: true}
			w.add(p)
			p.ending, p.grace = true, 1
			w.Log.Info("Pod was not wanted, and is removed", "pod", p.name, "podUID", p.uid)
			p.poke()
		}
		w.mu.Unlock()
	}
	if err := w.Volumes.Orphans(ctx, w.Known); err != nil {
		w.Log.Warn("Volumes of pods that are gone were not removed", "error", err)
	}
}

func fullName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

func over(phase corev1.PodPhase) bool {
	return phase == corev1.PodFailed || phase == corev1.PodSucceeded
}

// running are containers that run, by any attempt.
func running(have *kubecontainer.PodStatus) []*kubecontainer.Status {
	var out []*kubecontainer.Status
	for _, s := range have.ContainerStatuses {
		if s.State == kubecontainer.ContainerStateRunning {
			out = append(out, s)
		}
	}
	return out
}
