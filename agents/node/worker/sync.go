package worker

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/events"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/plan"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// What a pod whose time is over is told, in upstream's words.
const (
	deadlineReason  = "DeadlineExceeded"
	deadlineMessage = "Pod was active on the node longer than the specified deadline"
)

const networkNotReady = "network is not ready"

// sync brings the pod nearer to what is wanted. done: its containers have come to their end by themselves, or its time is over.
func (p *worker) sync(ctx context.Context, pod *corev1.Pod) (done bool, again time.Duration, err error) {
	have, err := p.look(ctx, pod)
	if err != nil {
		p.Events.Eventf(pod, corev1.EventTypeWarning, events.FailedSync, "error determining status: %v", err)
		return false, jitter(retry), fmt.Errorf("look at the pod: %w", err)
	}
	p.mu.Lock()
	if p.evicted == nil && p.late(pod) {
		p.evicted = &podstatus.Evicted{Reason: deadlineReason, Message: deadlineMessage}
		p.Events.Event(pod, corev1.EventTypeNormal, deadlineReason, deadlineMessage)
	}
	evicted := p.evicted
	p.mu.Unlock()
	p.resizing(pod, have)
	status := p.report(pod, have, evicted, false)
	p.tell(pod, status)
	if over(status.Phase) {
		return true, 0, nil
	}
	if err := p.NetworkReady(); err != nil && !kubecontainer.IsHostNetworkPod(pod) {
		p.Events.Eventf(pod, corev1.EventTypeWarning, events.NetworkNotReady, "%s: %v", networkNotReady, err)
		return false, jitter(networkRetry), fmt.Errorf("%s: %w", networkNotReady, err)
	}
	if err := p.prepare(ctx, pod, status); err != nil {
		return false, jitter(retry), err
	}
	s := &pass{worker: p, pod: pod, have: have, restartAll: restarting(status)}
	s.ips = ipsOf(status)
	if len(have.SandboxStatuses) > 0 {
		newest := have.SandboxStatuses[0]
		s.sandbox, s.attempt = newest.Id, newest.GetMetadata().GetAttempt()
	}
	waited := maps.Clone(p.waiting)
	s.do(ctx, plan.Decide(plan.Pod{
		Want: pod, Have: have, Probes: p.Probes.Plan(p.uid), Resources: p.given.Containers, PodResources: p.given.Pod, Backoffs: p.backoffs,
		RestartAll: s.restartAll, Now: time.Now(),
	}))
	switch {
	case s.failed == nil && s.acted: // and see what came of it
		return false, 0, nil
	case s.failed == nil:
		return false, p.rest(pod), nil
	}
	if s.acted || !maps.Equal(waited, p.waiting) {
		if have, err := p.look(ctx, pod); err == nil {
			p.tell(pod, p.report(pod, have, nil, false))
		}
	}
	return false, min(max(time.Until(s.until), 0), p.rest(pod)), s.failed
}

// prepare makes what the pod needs before it can have a sandbox.
func (p *worker) prepare(ctx context.Context, pod *corev1.Pod, status *corev1.PodStatus) error {
	p.Objects.Use(pod)
	if err := p.makeCgroup(pod); err != nil {
		p.Events.Eventf(pod, corev1.EventTypeWarning, events.FailedToCreatePodContainer, "unable to ensure pod container exists: %v", err)
		return fmt.Errorf("make the pod's cgroup: %w", err)
	}
	if err := p.Volumes.Setup(ctx, pod); err != nil {
		if ctx.Err() == nil {
			for _, err := range each(err) {
				p.Events.Eventf(pod, corev1.EventTypeWarning, events.FailedMountVolume, "%v", err)
			}
		}
		return fmt.Errorf("set up volumes: %w", err)
	}
	p.Probes.Set(pod, status)
	p.probed = true
	return nil
}

func (p *worker) makeCgroup(pod *corev1.Pod) (err error) {
	if p.Cgroups == nil {
		return nil
	}
	there := p.Cgroups.Exists(pod)
	if !there {
		if err := p.Cgroups.Ensure(pod); err != nil {
			return err
		}
	}
	if !there || p.given.Pod == nil { // one of an agent that did not write it down was made as it should be
		p.gavePod(pod)
	}
	p.parent, err = p.Cgroups.Parent(pod)
	return err
}

// look is what the runtime has, as it is after what it was asked to do.
func (p *worker) look(ctx context.Context, pod *corev1.Pod) (*kubecontainer.PodStatus, error) {
	r := p.Observer.Report(p.uid)
	if r == nil || p.have == nil || !r.At.After(p.acted) { // the first time for certain: a second sandbox would take the first one's place
		var err error
		if r, err = p.Observer.Refresh(ctx, p.uid); err != nil {
			return nil, err
		}
	}
	if r == nil {
		r = &cri.Report{Runtime: p.RuntimeName, At: time.Now()}
	}
	p.have = r.Status(p.uid, pod.Namespace, pod.Name)
	p.fillIn(p.have)
	if len(p.have.IPs) > 0 {
		p.ips = p.have.IPs
	}
	return p.have, nil
}

// report is what the API is to hear.
func (p *worker) report(pod *corev1.Pod, have *kubecontainer.PodStatus, evicted *podstatus.Evicted, stopped bool) *corev1.PodStatus {
	s := podstatus.Pod{
		Pod: p.withStatus(pod), Have: have, Waiting: p.waiting, Probes: p.Probes.Status(p.uid), Probed: p.probed,
		Since:   func(c *corev1.ContainerStatus) bool { return !c.State.Running.StartedAt.Time.Before(p.began) },
		Stopped: stopped, Evicted: evicted, NodeIPs: p.NodeIPs(),
	}
	if !stopped {
		s.Resize = p.Status.resizeConditions(p.uid)
		s.Cgroup = p.cgroup(pod)
	}
	if old, ok := p.Status.Get(p.uid); ok {
		s.Old = old
	}
	if p.RecursiveReadOnly != nil {
		if handler, err := p.handler(context.Background(), pod); err == nil {
			s.RecursiveReadOnly = p.RecursiveReadOnly(handler)
		}
	}
	return podstatus.Status(s)
}

// withStatus is the pod with the status that the API has, in which others have conditions, too.
func (p *worker) withStatus(pod *corev1.Pod) *corev1.Pod {
	known := p.API(p.uid)
	if known == nil || known == pod || kubetypes.IsStaticPod(pod) {
		return pod
	}
	with := *pod
	with.Status = known.Status
	return &with
}

// rest is how long the pod can be left alone.
func (p *worker) rest(pod *corev1.Pod) time.Duration {
	rest := jitter(resync)
	if end, ok := p.deadline(pod); ok {
		rest = min(rest, max(time.Until(end), 0))
	}
	return rest
}

// deadline is when the pod's time is over.
func (p *worker) deadline(pod *corev1.Pod) (time.Time, bool) {
	if pod.Spec.ActiveDeadlineSeconds == nil {
		return time.Time{}, false
	}
	status := &pod.Status
	if told, ok := p.Status.Get(p.uid); ok {
		status = told
	}
	if status.StartTime.IsZero() {
		return time.Time{}, false
	}
	return status.StartTime.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second), true
}

func (p *worker) late(pod *corev1.Pod) bool {
	end, ok := p.deadline(pod)
	return ok && !time.Now().Before(end)
}

func restarting(status *corev1.PodStatus) bool {
	for _, c := range status.Conditions {
		if c.Type == corev1.AllContainersRestarting {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func ipsOf(status *corev1.PodStatus) []string {
	var ips []string
	for _, ip := range status.PodIPs {
		ips = append(ips, ip.IP)
	}
	return ips
}

// ready tells the API that the pod has a sandbox and a network, which may be long before its first container runs.
func (s *pass) ready(pod *corev1.Pod, sandbox *runtimeapi.PodSandboxStatus) {
	have := *s.have
	have.SandboxStatuses = append([]*runtimeapi.PodSandboxStatus{sandbox}, have.SandboxStatuses...)
	have.ActiveContainerStatuses = nil
	have.IPs = cri.Addresses(sandbox)
	if len(have.IPs) > 0 {
		s.worker.ips = have.IPs
	}
	status := s.report(pod, &have, nil, false)
	s.ips = ipsOf(status)
	s.Status.Set(pod, status)
}

// each are the errors that one is made of: volumes fail one by one, and each has its event.
func each(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // this one, not what it wraps
		return all.Unwrap()
	}
	return []error{err}
}
