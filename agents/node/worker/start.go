package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/events"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/plan"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// Reasons for which a container waits, in upstream's words.
const (
	createConfigError = "CreateContainerConfigError"
	createError       = "CreateContainerError"
	runError          = "RunContainerError"
	postStartError    = "PostStartHookError"
)

// start pulls the image, makes the container, starts it and runs its hook. What is given up when the pod is to end is the pull and the
// hook.
func (s *pass) start(ctx context.Context, a plan.StartContainer) error {
	sandbox, err := s.sandboxConfig(ctx)
	if err != nil {
		return err
	}
	image, err := s.Images.Ensure(ctx, s.pod, a.Spec, sandbox)
	if err != nil {
		return s.unpulled(ctx, a.Spec, err)
	}
	calls := context.WithoutCancel(ctx)
	config, err := s.containerConfig(ctx, a, image)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		return s.refuse(a.Spec, "", createConfigError, err)
	}
	s.acted = true
	s.makeRoom(a)
	id, err := s.Runtime.CreateContainer(calls, s.sandbox, config, sandbox)
	if err != nil {
		return s.refuse(a.Spec, id, createError, err)
	}
	s.gave(a.Spec.Name, plan.Resources(s.pod, a.Spec))
	s.event(s.pod, a.Spec, id, corev1.EventTypeNormal, events.CreatedContainer, "Container created")
	if err := s.Runtime.StartContainer(calls, id); err != nil {
		return s.refuse(a.Spec, id, runError, err)
	}
	s.event(s.pod, a.Spec, id, corev1.EventTypeNormal, events.StartedContainer, "Container started")
	s.link(id, config.GetMetadata().GetName(), filepath.Join(sandbox.GetLogDirectory(), config.GetLogPath()))
	if a.Spec.Lifecycle == nil || a.Spec.Lifecycle.PostStart == nil {
		return nil
	}
	full := kubecontainer.ContainerID{Type: s.RuntimeName, ID: id}
	failure := s.Hooks.PostStart(ctx, s.pod, a.Spec, full, s.ips)
	if failure == nil || ctx.Err() != nil {
		return failure
	}
	err = s.stop(ctx, s.pod, stop{Container: a.Spec, id: full, message: "FailedPostStartHook", grace: plan.Grace(s.pod, a.Spec, "")})
	var waiting *podstatus.Waiting
	if !errors.As(failure, &waiting) {
		failure = &podstatus.Waiting{Reason: postStartError, Message: failure.Error()}
	}
	return errors.Join(failure, err)
}

// refuse records why there is no container, and returns it for the pod's status.
func (s *pass) refuse(c *corev1.Container, id, reason string, err error) error {
	var waiting *podstatus.Waiting
	if !errors.As(err, &waiting) {
		st, _ := status.FromError(err)
		waiting = &podstatus.Waiting{Reason: reason, Message: st.Message()}
	}
	s.event(s.pod, c, id, corev1.EventTypeWarning, events.FailedToCreateContainer, "Error: "+waiting.Message)
	return waiting
}

// unpulled records that there is no container for lack of its image. Events say it in a word, but when the image is there and something
// about it is not known.
func (s *pass) unpulled(ctx context.Context, c *corev1.Container, err error) error {
	var waiting *podstatus.Waiting
	if ctx.Err() != nil || !errors.As(err, &waiting) {
		return err
	}
	why := waiting.Reason
	if why == createConfigError {
		why = waiting.Message
	}
	s.event(s.pod, c, "", corev1.EventTypeWarning, events.FailedToCreateContainer, "Error: "+why)
	return err
}

func (s *pass) containerConfig(ctx context.Context, a plan.StartContainer, image Image) (*runtimeapi.ContainerConfig, error) {
	frame, err := s.common(ctx)
	if err != nil {
		return nil, err
	}
	c := cri.Container{
		Pod: frame, Spec: a.Spec, Attempt: a.Restarts, Image: image.Ref, UID: image.UID, Username: image.Username,
	}
	logs := filepath.Join(frame.LogDirectory(), a.Spec.Name)
	if a.Restarts == 0 { // or the runtime has forgotten all, and the logs tell
		c.Attempt = nextLog(logs)
	}
	if a.Target != "" {
		target := s.have.FindContainerStatusByName(a.Target)
		if target == nil {
			return nil, fmt.Errorf("unable to find target container %v", a.Target)
		}
		c.Target = target.ID.ID
	}
	if c.Envs, err = s.Environment.Variables(ctx, s.pod, a.Spec, s.ips); err != nil {
		return nil, err
	}
	if c.Mounts, err = s.Volumes.Mounts(ctx, s.pod, a.Spec, c.Envs); err != nil {
		return nil, err
	}
	if c.Mounts, err = s.ownMounts(a.Spec, c.Mounts); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, fmt.Errorf("create container log directory for container %s failed: %w", a.Spec.Name, err)
	}
	return c.Config()
}

// ownMounts adds the files that a container has without asking: /etc/hosts, and the one for its last words.
func (s *pass) ownMounts(c *corev1.Container, mounts []*runtimeapi.Mount) ([]*runtimeapi.Mount, error) {
	if len(s.ips) > 0 || s.pod.Spec.HostNetwork {
		text, err := s.Environment.Hosts(s.pod, s.ips)
		if err != nil {
			return nil, err
		}
		hosts, err := s.Volumes.Hosts(s.pod, c, text)
		if err != nil {
			return nil, err
		}
		if hosts != nil {
			mounts = append(mounts, hosts)
		}
	}
	message, err := s.Volumes.TerminationLog(s.pod, c)
	if err != nil {
		return nil, err
	}
	if message != nil {
		mounts = append(mounts, message)
	}
	return mounts, nil
}

// nextLog is the attempt after the last one that has a log.
func nextLog(directory string) int {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return 0
	}
	next := 0
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), ".")
		if n, err := strconv.Atoi(number); err == nil {
			next = max(next, n+1)
		}
	}
	return next
}

// link names the container's log as collectors of logs expect it.
func (s *pass) link(id, container, log string) {
	if s.Links == "" {
		return
	}
	if _, err := os.Stat(log); errors.Is(err, os.ErrNotExist) {
		return
	}
	if err := os.Symlink(log, s.linkOf(id, container)); err != nil {
		s.log.Warn("Link to a container's log was not made", "container", container, "error", err)
	}
}

func (p *worker) linkOf(id, container string) string {
	namespace, name, _ := strings.Cut(p.name, "/")
	return logLink(p.Links, namespace, name, container, id)
}

func logLink(directory, namespace, name, container, id string) string {
	prefix := name + "_" + namespace + "_" + container
	const most = 255 - 1 - 4 // a file's name, without the dash and the suffix
	prefix = prefix[:min(len(prefix), most-len(id))]
	return filepath.Join(directory, prefix+"-"+id+".log")
}
