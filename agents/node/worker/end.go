package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	crierror "k8s.io/cri-api/pkg/errors"
	"k8s.io/kubernetes/pkg/kubelet/events"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// orphanGrace is what containers have to stop in that nobody wants.
const orphanGrace = time.Second

// eraseTimeout bounds the removal of what is left of a pod.
const eraseTimeout = 2 * time.Minute

// terminate stops the pod's containers. When it returns without an error, none of them runs, and how they ended is told.
func (p *worker) terminate(ctx context.Context, pod *corev1.Pod, grace int64, evicted *podstatus.Evicted) error {
	have, err := p.look(ctx, pod)
	if err != nil {
		p.Events.Eventf(pod, corev1.EventTypeWarning, events.FailedSync, "error determining status: %v", err)
		return fmt.Errorf("look at the pod: %w", err)
	}
	status := p.report(pod, have, evicted, false)
	p.Status.Set(pod, status)
	p.Probes.Terminate(p.uid)
	if len(have.SandboxStatuses) > 0 || len(running(have)) > 0 {
		err := p.stopAll(ctx, pod, have, time.Duration(grace)*time.Second)
		p.acted = time.Now()
		if err != nil {
			if ctx.Err() == nil {
				p.Events.Eventf(pod, corev1.EventTypeWarning, events.FailedToKillPod, "error killing pod: %v", err)
			}
			return fmt.Errorf("stop the pod: %w", err)
		}
	}
	p.Probes.Forget(p.uid)
	if have, err = p.look(ctx, pod); err != nil {
		return fmt.Errorf("look at the pod after its end: %w", err)
	}
	if left := running(have); len(left) > 0 {
		return fmt.Errorf("%d containers run after they were stopped", len(left))
	}
	have.IPs = p.ips // the sandbox has given them back
	p.Status.Set(pod, p.report(pod, have, evicted, true))
	return nil
}

// clean gives back what the pod used. When it returns without an error, the pod is finished.
func (p *worker) clean(ctx context.Context, pod *corev1.Pod) error {
	if err := p.Volumes.TearDown(ctx, p.uid); err != nil {
		return fmt.Errorf("tear down volumes: %w", err)
	}
	p.Objects.Release(pod)
	if err := p.removeCgroup(ctx); err != nil {
		return fmt.Errorf("remove the pod's cgroup: %w", err)
	}
	p.Status.Finish(pod)
	return nil
}

func (p *worker) removeCgroup(ctx context.Context) error {
	if p.Cgroups == nil {
		return nil
	}
	return p.Cgroups.Remove(ctx, p.uid)
}

// erase removes what is left of a pod that nobody has any more: what the runtime knows of it, its logs and its files.
func (p *worker) erase() {
	ctx, cancel := context.WithTimeout(context.Background(), eraseTimeout)
	defer cancel()
	if err := p.eraseSandboxes(ctx); err != nil {
		p.log.Warn("Rest of a pod was not removed", "error", err)
	}
	if p.want != nil {
		logs := (&cri.Pod{Node: p.Node, Pod: p.want}).LogDirectory()
		if err := os.RemoveAll(logs); err != nil {
			p.log.Warn("Logs of a pod were not removed", "error", err)
		}
	}
	if err := p.Volumes.Remove(ctx, p.uid); err != nil {
		p.log.Warn("Files of a pod were not removed", "error", err)
	}
}

func (p *worker) eraseSandboxes(ctx context.Context) error {
	report, err := p.Observer.Refresh(ctx, p.uid)
	if err != nil || report == nil {
		return err
	}
	var errs []error
	for _, c := range report.Containers {
		errs = append(errs, p.removeContainer(ctx, c.Id, false))
	}
	for _, sandbox := range report.Sandboxes {
		if err := p.Runtime.RemovePodSandbox(ctx, sandbox.Id); err != nil && !crierror.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	_, err = p.Observer.Refresh(ctx, p.uid) // or they would be taken for an orphan's
	return errors.Join(append(errs, err)...)
}

// removeOrphan stops and removes a pod that only the runtime has.
func (p *worker) removeOrphan(ctx context.Context) error {
	namespace, name, _ := strings.Cut(p.name, "/")
	pod := &corev1.Pod{}
	pod.UID, pod.Namespace, pod.Name = p.uid, namespace, name
	have, err := p.look(ctx, pod)
	if err != nil {
		return fmt.Errorf("look at a pod that nobody wants: %w", err)
	}
	for _, c := range running(have) { // for the words of events
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c.Name})
	}
	err = p.stopAll(ctx, pod, have, orphanGrace)
	p.acted = time.Now()
	if err != nil {
		p.Events.Eventf(pod, corev1.EventTypeWarning, events.FailedToKillPod, "error killing pod: %v", err)
		return fmt.Errorf("stop a pod that nobody wants: %w", err)
	}
	if err := p.Volumes.TearDown(ctx, p.uid); err != nil {
		return fmt.Errorf("tear down volumes: %w", err)
	}
	if err := p.removeCgroup(ctx); err != nil {
		return fmt.Errorf("remove the cgroup: %w", err)
	}
	if err := p.eraseSandboxes(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll((&cri.Pod{Node: p.Node, Pod: pod}).LogDirectory()); err != nil {
		return err
	}
	return p.Volumes.Remove(ctx, p.uid)
}

// removeContainer removes one that has stopped, and its logs.
func (p *worker) removeContainer(ctx context.Context, id string, keepLog bool) error {
	if !keepLog {
		p.removeLog(ctx, id)
	}
	if err := p.Runtime.RemoveContainer(ctx, id); err != nil && !crierror.IsNotFound(err) {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// removeLog removes a container's log, with all that was rotated, and the link to it.
func (p *worker) removeLog(ctx context.Context, id string) {
	report := p.Observer.Report(p.uid)
	if report == nil {
		return
	}
	for _, c := range report.Containers {
		if c.Id != id || c.LogPath == "" {
			continue
		}
		logs, _ := filepath.Glob(c.LogPath + "*")
		for _, path := range logs {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				p.log.Warn("Log of a container was not removed", "error", err)
			}
		}
		if p.Links != "" {
			_ = os.Remove(p.linkOf(id, c.GetMetadata().GetName())) // there may be none
		}
	}
}
