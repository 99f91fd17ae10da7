package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/events"
	"k8s.io/kubernetes/pkg/kubelet/util/format"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/plan"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// pass is one look at a pod, and what is done because of it.
type pass struct {
	*worker
	pod        *corev1.Pod
	have       *kubecontainer.PodStatus
	restartAll bool
	sandbox    string
	attempt    uint32
	ips        []string

	frame  *cri.Pod // what the sandbox and its containers have in common
	config *runtimeapi.PodSandboxConfig

	stopped  []kubecontainer.ContainerID // that ran when the pass began
	ownUsers bool                        // a sandbox with users of its own was made
	grown    bool                        // the pod's cgroup has room for all that its containers are to have
	shrinks  bool                        // what the containers use is less than what they are to have
	acted    bool                        // the runtime was asked to change something
	failed   error
	until    time.Time // when to try again; zero: nothing failed
}

// do does one action after the other. Those that cannot be done are done again with another pass.
func (s *pass) do(ctx context.Context, actions []plan.Action) {
	for _, a := range actions {
		if sandbox, ok := a.(plan.CreateSandbox); ok && sandbox.Changed {
			s.Events.Event(s.pod, corev1.EventTypeNormal, events.SandboxChanged, "Pod sandbox changed, it will be killed and re-created.")
		}
	}
	defer func() {
		if s.ownUsers && s.failed != nil && ctx.Err() == nil {
			s.Meter.OwnUsersFailed()
		}
	}()
	for _, a := range actions {
		if ctx.Err() != nil {
			s.failed = errors.Join(s.failed, ctx.Err())
			return
		}
		err := s.act(ctx, a)
		if s.acted { // what is known of the pod is old
			s.worker.acted = time.Now()
		}
		if err == nil {
			continue
		}
		s.failed = errors.Join(s.failed, err)
		if _, waits := a.(plan.Wait); !waits {
			s.soon(time.Now().Add(jitter(retry)))
		}
		if s.essential(a) {
			return
		}
	}
}

// essential: when it could not be done, nothing that comes after is.
func (s *pass) essential(a plan.Action) bool {
	switch a := a.(type) {
	case plan.StopPod, plan.StopContainer, plan.CreateSandbox:
		return true
	case plan.RemoveContainer:
		return a.KeepLog
	case plan.StartContainer:
		return a.Needed
	case plan.Wait:
		return a.Needed
	}
	return false
}

func (s *pass) act(ctx context.Context, a plan.Action) error {
	switch a := a.(type) {
	case plan.StopPod:
		if len(s.have.SandboxStatuses) == 0 && len(running(s.have)) == 0 {
			return nil
		}
		s.acted = true
		return s.stopAll(ctx, s.pod, s.have, 0)
	case plan.StopContainer:
		s.acted = true
		s.stopped = append(s.stopped, a.ID)
		return s.stop(ctx, s.pod, stop{Container: a.Spec, id: a.ID, message: a.Message, grace: a.Grace})
	case plan.RemoveContainer:
		s.acted = true
		return s.removeContainer(context.WithoutCancel(ctx), a.ID.ID, a.KeepLog)
	case plan.CreateSandbox:
		s.acted = true
		return s.createSandbox(ctx, a)
	case plan.ResizeContainer:
		s.acted = true
		return s.resizeContainer(context.WithoutCancel(ctx), a)
	case plan.ResizePod:
		return s.resizePod(context.WithoutCancel(ctx))
	case plan.StartContainer:
		if !a.Exited.IsZero() {
			s.backoffs.Next(a.Spec.Name, a.Exited, time.Now())
		}
		err := s.start(ctx, a)
		s.meterContainer(ctx, a.Spec, err)
		var waiting *podstatus.Waiting
		switch {
		case err == nil:
			delete(s.waiting, a.Spec.Name)
		case ctx.Err() != nil:
		case errors.As(err, &waiting):
			s.waiting[a.Spec.Name] = *waiting
		}
		return err
	case plan.Wait:
		s.Events.Eventf(s.reference(s.pod, a.Spec), corev1.EventTypeWarning, events.BackOffStartContainer,
			"Back-off restarting failed container %s in pod %s", a.Spec.Name, format.Pod(s.pod))
		why := podstatus.Waiting{Reason: kubecontainer.ErrCrashLoopBackOff.Error(), Message: a.Message}
		s.waiting[a.Spec.Name] = why
		s.soon(a.Until)
		return fmt.Errorf("%w: %w", errReported, &why)
	default:
		return fmt.Errorf("%T is not known", a)
	}
}

// soon has the pod looked at again by then.
func (s *pass) soon(by time.Time) {
	if s.until.IsZero() || by.Before(s.until) {
		s.until = by
	}
}

// common is what the sandbox and its containers have in common.
func (s *pass) common(ctx context.Context) (*cri.Pod, error) {
	if s.frame != nil {
		return s.frame, nil
	}
	hostname, dns, err := s.Environment.Sandbox(ctx, s.pod)
	if err != nil {
		return nil, err
	}
	frame := &cri.Pod{
		Node: s.Node, Pod: s.pod, Attempt: s.attempt, Hostname: hostname, DNS: dns, CgroupParent: s.parent, ExtraGroups: s.Volumes.Groups(s.pod),
	}
	if s.Users != nil {
		handler, err := s.handler(ctx, s.pod)
		if err != nil {
			return nil, err
		}
		if frame.Users, err = s.Users(s.pod, handler); err != nil {
			return nil, err
		}
	}
	s.frame = frame
	return frame, nil
}

// sandboxConfig is the sandbox's, also when it is there already.
func (s *pass) sandboxConfig(ctx context.Context) (*runtimeapi.PodSandboxConfig, error) {
	if s.config != nil {
		return s.config, nil
	}
	frame, err := s.common(ctx)
	if err != nil {
		return nil, err
	}
	s.config, err = frame.Sandbox()
	return s.config, err
}

func (s *pass) createSandbox(ctx context.Context, a plan.CreateSandbox) error {
	s.attempt, s.frame, s.config = a.Attempt, nil, nil
	err := s.runSandbox(ctx)
	if s.Meter != nil && ctx.Err() == nil {
		s.ownUsers = s.pod.Spec.HostUsers != nil && !*s.pod.Spec.HostUsers
		s.Meter.PodStarted(s.ownUsers, err)
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, errReported) { // a pod that is to end need not have one
		return err
	}
	s.Events.Eventf(s.pod, corev1.EventTypeWarning, events.FailedCreatePodSandBox, "Failed to create pod sandbox: %v", err)
	return fmt.Errorf("create the sandbox: %w", err)
}

func (s *pass) runSandbox(ctx context.Context) error {
	config, err := s.sandboxConfig(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		return err
	}
	handler, err := s.handler(ctx, s.pod)
	if err != nil {
		return err
	}
	leave, err := s.gate.enter(ctx)
	if err != nil {
		return err
	}
	s.sandbox, err = s.Runtime.RunPodSandbox(context.WithoutCancel(ctx), config, handler)
	leave()
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	r, err := s.Runtime.PodSandboxStatus(ctx, s.sandbox, false)
	if err != nil {
		s.Events.Eventf(s.pod, corev1.EventTypeWarning, events.FailedStatusPodSandBox, "Unable to get pod sandbox status: %v", err)
		return fmt.Errorf("%w: %w", errReported, err)
	}
	s.ready(s.pod, r.GetStatus())
	return nil
}

// handler is the runtime's that the pod asks for.
func (p *worker) handler(ctx context.Context, pod *corev1.Pod) (string, error) {
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" || p.Handler == nil {
		return "", nil
	}
	return p.Handler(ctx, pod)
}
