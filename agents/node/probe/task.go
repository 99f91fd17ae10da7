package probe

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
)

// kind is what is asked.
type kind int

const (
	liveness kind = iota
	readiness
	startup
)

func (k kind) String() string { return [...]string{"Liveness", "Readiness", "Startup"}[k] }

// initial is the result of a container that was not asked yet.
func (k kind) initial() results.Result {
	return [...]results.Result{results.Success, results.Failure, results.Unknown}[k]
}

func (k kind) of(c *corev1.Container) *corev1.Probe {
	return [...]*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe}[k]
}

// task is one probe of one container, of all its attempts.
type task struct {
	prober    *Prober
	pod       *pod
	container *corev1.Container
	spec      *corev1.Probe
	kind      kind
	sidecar   bool
	leaving   bool // the pod was deleted when the probe began
	off       bool // it has ended

	base      time.Time // the probe runs every period from then on
	began     time.Time // when it ran last
	next      time.Time
	index     int // in the queue; -1: not there
	begun     bool
	triggered bool // it is to run once more when it is done

	id     kubecontainer.ContainerID // of the attempt
	seen   time.Time                 // when the attempt was first seen to run, by a clock that nobody sets; zero: not yet
	known  bool
	result results.Result
	last   results.Result // of the last time
	run    int            // how often in a row
	hold   bool           // nothing is asked of this attempt any more
	news   bool           // of which somebody is to be told
}

func (t *task) period() time.Duration {
	return time.Duration(max(t.spec.PeriodSeconds, 1)) * time.Second
}

// status is the container's; nil: it was not made yet.
func (t *task) status() *corev1.ContainerStatus {
	for _, statuses := range [][]corev1.ContainerStatus{t.pod.status.ContainerStatuses, t.pod.status.InitContainerStatuses} {
		for i := range statuses {
			if s := &statuses[i]; s.Name == t.container.Name && s.ContainerID != "" {
				return s
			}
		}
	}
	return nil
}

// renewed: there is an attempt that the probe has not seen.
func (t *task) renewed() bool {
	s := t.status()
	return s != nil && s.ContainerID != t.id.String() && (!t.pod.stopping || t.kind == readiness)
}

// waited: that the container is not ready may be because nobody has asked.
func (t *task) waited() bool {
	s := t.status()
	return s != nil && isTrue(s.Started) && s.State.Running != nil &&
		!(t.known && t.id.String() == s.ContainerID && t.result == results.Success)
}

func isTrue(b *bool) bool { return b != nil && *b }

func (t *task) set(r results.Result) {
	if t.known && t.result == r {
		return
	}
	t.known, t.result = true, r
	t.news = t.news || t.kind != liveness || r == results.Failure
}

// step looks at the pod's status when the probe's time has come. ask: the container is to be asked. on: the probe goes on.
func (t *task) step(now time.Time) (ask, on bool) {
	t.began, t.begun = now, true
	if over(t.pod.status.Phase) {
		return false, false
	}
	s := t.status()
	if s == nil {
		return false, true
	}
	if t.id.String() != s.ContainerID {
		t.renew(s)
	}
	if t.hold {
		return false, true
	}
	if s.State.Running == nil {
		t.set(results.Failure)
		return false, s.State.Terminated == nil ||
			podutil.ContainerShouldRestart(*t.container, t.pod.spec.Spec, s.State.Terminated.ExitCode) ||
			kubecontainer.ShouldAllContainersRestart(t.pod.spec, nil, t.pod.status)
	}
	if t.leaving && t.kind != readiness { // it shall stop, and not be stopped for that
		t.set(results.Success)
		return false, false
	}
	if t.seen.IsZero() {
		t.seen = now
	}
	ran := max(now.Sub(s.State.Running.StartedAt.Time), now.Sub(t.seen)) // it may have started by a clock that was set back since
	if int64(ran/time.Second) < int64(t.spec.InitialDelaySeconds) {
		return false, true
	}
	return isTrue(s.Started) != (t.kind == startup), true
}

// renew begins with an attempt that was not seen before. One that ran when the agent began is as it was, until it is asked.
func (t *task) renew(s *corev1.ContainerStatus) {
	t.id, t.seen, t.known, t.hold = kubecontainer.ParseContainerID(s.ContainerID), time.Time{}, false, false
	if t.sidecar && t.kind == startup && isTrue(s.Started) {
		t.set(results.Success)
	}
	ran := s.State.Running != nil && !s.State.Running.StartedAt.IsZero() &&
		s.State.Running.StartedAt.Time.Before(t.prober.start.Add(-restarted))
	if !ran {
		t.set(t.kind.initial())
	}
}

// answer counts a result, which becomes the container's when there are enough of it.
func (t *task) answer(r results.Result) {
	if t.last == r {
		t.run++
	} else {
		t.last, t.run = r, 1
	}
	if r == results.Failure && t.run < int(t.spec.FailureThreshold) || r == results.Success && t.run < int(t.spec.SuccessThreshold) {
		return
	}
	t.set(r)
	if t.kind == startup || t.kind == liveness && r == results.Failure {
		t.hold, t.run = true, 0
	}
}

// again says when the probe runs next, of which the time may have come already.
func (t *task) again(now time.Time) {
	if t.triggered {
		t.triggered = false
		t.base, t.next = now, now
		return
	}
	t.next = t.base.Add((t.began.Sub(t.base)/t.period() + 1) * t.period())
}
