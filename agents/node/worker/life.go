package worker

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"

	"github.com/rowlock-io/rowlock/agents/node/plan"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// worker is a pod's.
type worker struct {
	*Workers
	uid  types.UID
	name string
	log  *slog.Logger
	wake chan struct{}
	seen time.Time

	// What it was told, and how far it has come; guarded by the workers' mu.
	want    *corev1.Pod // nil: only the runtime has it
	phase   Phase
	ending  bool // its end was asked for, or has come
	gone    bool // nobody has it any more
	grace   int64
	evicted *podstatus.Evicted
	again   *corev1.Pod        // of the same UID, waiting for the end of this one
	stopped chan struct{}      // closed when it is terminated
	cancel  context.CancelFunc // of what is being done

	// What it knows; its goroutine's own.
	started  bool
	have     *kubecontainer.PodStatus
	acted    time.Time // when the runtime was asked to change something last
	ips      []string
	parent   string // cgroup
	waiting  map[string]podstatus.Waiting
	backoffs plan.Backoffs
	given    Given
	probed   bool
	// stopping are containers whose stop has begun: their hooks have run.
	stopping sets.Set[string]
}

// poke has the worker look.
func (p *worker) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// end asks for the pod's end, or for it to be sooner. What is being done for it is given up. A grace period only gets shorter.
func (p *worker) end(grace *int64) {
	if p.phase >= Terminated {
		return
	}
	began, before := !p.ending, p.grace
	p.ending = true
	if p.want != nil {
		p.grace = effectiveGrace(p.grace, p.want, grace)
	}
	if p.cancel != nil && (began || before != 0 && p.grace != before) {
		p.cancel()
	}
}

// effectiveGrace is in seconds, and at least one.
func effectiveGrace(before int64, pod *corev1.Pod, asked *int64) int64 {
	grace, said := before, false
	for _, s := range []*int64{pod.DeletionGracePeriodSeconds, asked} {
		if s != nil && (grace == 0 || *s < grace) {
			grace, said = *s, true
		}
	}
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil && !said && grace == 0 {
		grace = *s
	}
	return max(grace, 1)
}

// run does what is to be done, until the pod is finished or ctx ends.
func (p *worker) run(ctx context.Context) {
	timer := time.NewTimer(resync)
	defer timer.Stop()
	p.backoffs, p.waiting = plan.Backoffs{}, map[string]podstatus.Waiting{}
	p.stopping = sets.New[string]()
	p.recall()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		again, finished := p.survive(ctx)
		if finished {
			return
		}
		timer.Reset(again)
	}
}

// survive does one turn. A pod that nobody thought of must not take the others' agent along.
func (p *worker) survive(ctx context.Context) (again time.Duration, finished bool) {
	defer func() {
		if cause := recover(); cause != nil {
			p.log.Error("Worker of a pod crashed, and tries again", "error", cause, "stack", string(debug.Stack()))
			again, finished = jitter(resync), false
		}
	}()
	return p.turn(ctx)
}

// turn does one thing, and tells when it is to be done again.
func (p *worker) turn(ctx context.Context) (again time.Duration, finished bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.mu.Lock()
	if !p.started && p.want != nil && !p.claim() {
		finished = p.ending
		if finished {
			p.finish()
		}
		p.mu.Unlock()
		return resync, finished
	}
	if p.phase == Syncing && p.ending {
		p.phase = Terminating
	}
	phase, pod, grace, evicted := p.phase, p.want, p.grace, p.evicted
	p.cancel = cancel
	p.mu.Unlock()

	if p.Meter != nil {
		defer p.meter(phase, p.started, time.Now())
	}
	done, again, err := false, resync, error(nil)
	switch {
	case pod == nil:
		err = p.removeOrphan(ctx)
		done = err == nil
	case phase == Syncing:
		done, again, err = p.sync(ctx, pod)
	case phase == Terminating:
		err = p.terminate(ctx, pod, grace, evicted)
		done = err == nil
	default:
		err = p.clean(ctx, pod)
		done = err == nil
	}
	p.started = true

	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel = nil
	switch {
	case done && pod == nil:
		p.phase = Finished
		close(p.stopped)
		p.forget(p)
		return 0, true
	case done && phase == Syncing:
		p.phase, p.ending = max(p.phase, Terminating), true
		return 0, false
	case done && phase == Terminating:
		p.phase = Terminated
		close(p.stopped)
		p.Status.Changed(p.uid)
		return 0, false
	case done:
		p.finish()
		return 0, true
	case err != nil && ctx.Err() != nil: // it is to be done in another way
		return 0, false
	case err != nil && !errors.Is(err, errReported):
		p.log.Warn("Pod was not brought to where it should be", "error", err)
	}
	if err != nil && phase != Syncing {
		again = jitter(retry)
	}
	return again, false
}

// errReported: whoever wants to know has been told.
var errReported = errors.New("worker: reported")

// claim lets a static pod start when no other of its name is there.
func (p *worker) claim() bool {
	if !kubetypes.IsStaticPod(p.want) {
		return true
	}
	if owner, taken := p.static[p.name]; taken && owner != p.uid || p.ending && !p.started {
		return false
	}
	p.static[p.name] = p.uid
	return true
}

// finish ends the worker; the pod is remembered while somebody has it.
func (p *worker) finish() {
	p.phase = Finished
	select {
	case <-p.stopped:
	default:
		close(p.stopped)
	}
	p.release(p)
	if p.gone {
		p.retire(p)
	}
	if p.Settled != nil {
		p.wg.Go(p.Settled)
	}
}

// jitter keeps pods from all being looked at together.
func jitter(d time.Duration) time.Duration { return d + time.Duration(rand.Float64()*float64(d)/2) }
