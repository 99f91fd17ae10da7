// Package probe asks containers how they are: whether they have started, are ready, are alive. One goroutine knows when each is to be
// asked, and those that are asked at a time are few. What counts as an answer, and how many of them, is as in the kubelet of
// Kubernetes 1.36, down to the moments at which it asks.
package probe

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"

	"github.com/rowlock-io/rowlock/agents/node/plan"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// DefaultParallel is how many probes run at a time when nothing else is said.
const DefaultParallel = 64

// slow is when a probe stops counting for that: pods that do not answer must not keep others from being asked.
const slow = time.Second

// restarted is how long before an agent began a container has to have, for it to be one that an earlier agent knew.
const restarted = 10 * time.Second

// Config says what a Prober works with.
type Config struct {
	Runtime  Execer
	Recorder record.EventRecorder
	Log      *slog.Logger
	// Changed is told of pods about which something new is known. It is called from many goroutines and must not wait.
	Changed func(types.UID)
	// Parallel bounds how many probes run at a time; 0: DefaultParallel.
	Parallel int
	// Metrics has the kubelet's counts of probes, of its /metrics/probes; nil: nothing is counted.
	Metrics prometheus.Registerer
}

// Execer is the runtime.
type Execer interface {
	ExecSync(ctx context.Context, id string, command []string, timeout time.Duration) (stdout, stderr []byte, err error)
}

// Prober probes the containers of all pods.
type Prober struct {
	cfg    Config
	asker  asker
	counts *counts
	start  time.Time
	wake   chan struct{}
	probes sync.WaitGroup

	mu      sync.Mutex
	pods    map[types.UID]*pod
	due     queue
	ready   []*task // due, and waiting for others to finish
	running int
}

// pod is what is known of one.
type pod struct {
	spec     *corev1.Pod
	status   *corev1.PodStatus
	tasks    map[key]*task
	stopping bool
}

type key struct {
	container string
	kind      kind
}

// New returns one that probes nothing until it runs.
func New(c Config) *Prober {
	if c.Parallel == 0 {
		c.Parallel = DefaultParallel
	}
	return &Prober{
		cfg: c, asker: newAsker(c), counts: newCounts(c.Metrics), start: time.Now(), wake: make(chan struct{}, 1), pods: map[types.UID]*pod{},
	}
}

// Set says how a pod that runs is, and is to be reported. It is told whenever that changes; the first time its probes begin.
func (p *Prober) Set(spec *corev1.Pod, status *corev1.PodStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	of := p.pods[spec.UID]
	if of == nil {
		of = &pod{tasks: map[key]*task{}}
		p.pods[spec.UID] = of
	}
	of.spec, of.status = spec, status
	for i := range spec.Spec.Containers {
		p.probe(of, &spec.Spec.Containers[i], false, now)
	}
	for i := range spec.Spec.InitContainers {
		if c := &spec.Spec.InitContainers[i]; podutil.IsRestartableInitContainer(c) {
			p.probe(of, c, true, now)
		}
	}
	p.rouse()
}

// probe begins or goes on with the probes of a container.
func (p *Prober) probe(of *pod, c *corev1.Container, sidecar bool, now time.Time) {
	for _, k := range []kind{startup, readiness, liveness} {
		spec := k.of(c)
		if spec == nil {
			continue
		}
		t := of.tasks[key{c.Name, k}]
		switch {
		case t == nil && of.stopping && k != readiness, t == nil && over(of.status.Phase):
			continue
		case t == nil, t.off && !over(of.status.Phase) && t.renewed():
			t = p.begin(of, c, k, sidecar, now)
		case t.off:
			continue
		}
		t.container, t.spec = c, spec
		if k == readiness && t.waited() {
			p.trigger(t, now)
		}
	}
}

// begin begins a container's probe. Those of an agent that has just begun itself are spread, so that they do not all come at once.
func (p *Prober) begin(of *pod, c *corev1.Container, k kind, sidecar bool, now time.Time) *task {
	t := &task{
		prober: p, pod: of, container: c, spec: k.of(c), kind: k, sidecar: sidecar, leaving: of.spec.DeletionTimestamp != nil,
		base: now, next: now, index: -1,
	}
	if period := t.period(); period > now.Sub(p.start) {
		t.base = now.Add(time.Duration(rand.Float64() * float64(period)))
		t.next = t.base
	}
	of.tasks[key{c.Name, k}] = t
	p.due.add(t)
	return t
}

// trigger has a probe run now, and every period from then on.
func (p *Prober) trigger(t *task, now time.Time) {
	if t.index < 0 || !t.begun {
		t.triggered = true
		return
	}
	t.base, t.next = now, now
	p.due.move(t)
}

// Terminate stops the probes that could have a container of the pod restarted. It is told whether it is ready until it is gone.
func (p *Prober) Terminate(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.pods[uid]
	if of == nil {
		return
	}
	of.stopping = true
	for key, t := range of.tasks {
		if key.kind != readiness && !t.sidecar {
			p.drop(t)
		}
	}
}

// Forget ends all probes of a pod.
func (p *Prober) Forget(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.pods[uid]
	if of == nil {
		return
	}
	for _, t := range of.tasks {
		p.drop(t)
	}
	delete(p.pods, uid)
}

// drop ends one probe; what it found is forgotten.
func (p *Prober) drop(t *task) {
	t.off, t.known = true, false
	p.due.remove(t)
	p.counts.forget(t)
}

// Plan is what the probes of a pod found that decide whether containers are restarted, by the containers' ids.
func (p *Prober) Plan(uid types.UID) map[string]plan.Probes {
	out := map[string]plan.Probes{}
	p.each(uid, func(t *task) {
		found, result := out[t.id.ID], t.result
		switch t.kind {
		case liveness:
			found.Liveness = &result
		case startup:
			found.Startup = &result
		case readiness:
			return
		}
		out[t.id.ID] = found
	})
	return out
}

// Status is what the probes of a pod found that is reported, by the containers' ids.
func (p *Prober) Status(uid types.UID) map[string]podstatus.Probes {
	out := map[string]podstatus.Probes{}
	p.each(uid, func(t *task) {
		found, success := out[t.id.ID], t.result == results.Success
		switch t.kind {
		case readiness:
			found.Readiness = &success
		case startup:
			found.Startup = &success
		case liveness:
			return
		}
		out[t.id.ID] = found
	})
	return out
}

func (p *Prober) each(uid types.UID, f func(*task)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.pods[uid]
	if of == nil {
		return
	}
	for _, t := range of.tasks {
		if t.known {
			f(t)
		}
	}
}

func over(phase corev1.PodPhase) bool {
	return slices.Contains([]corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded}, phase)
}
