package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	crierror "k8s.io/cri-api/pkg/errors"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/events"

	"github.com/rowlock-io/rowlock/agents/node/plan"
)

// stop is one container's.
type stop struct {
	Container *corev1.Container
	id        kubecontainer.ContainerID
	message   string // of the event; "": upstream's
	grace     time.Duration
	turns     *turns // nil: at once
}

// stop runs the container's hook, waits for its turn, and has the runtime stop it. It returns when the container has stopped.
func (p *worker) stop(ctx context.Context, pod *corev1.Pod, s stop) error {
	began := time.Now()
	defer s.turns.over(s.Container.Name)
	if first := p.stopsFirst(s.id.ID); first {
		if s.message == "" {
			s.message = "Stopping container " + s.Container.Name
		}
		p.event(pod, s.Container, s.id.ID, corev1.EventTypeNormal, events.KillingContainer, s.message)
		if l := s.Container.Lifecycle; l != nil && l.PreStop != nil && s.grace > 0 {
			p.Hooks.PreStop(ctx, pod, s.Container, s.id, p.ips, s.grace)
		}
	}
	if s.grace > 0 {
		s.turns.wait(ctx, s.Container.Name, s.grace-time.Since(began))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	rest := plan.Rest(s.grace, time.Since(began).Truncate(time.Second))
	err := p.Runtime.StopContainer(ctx, s.id.ID, int64(rest/time.Second))
	if err != nil && !crierror.IsNotFound(err) {
		return fmt.Errorf("stop container %s: %w", s.Container.Name, err)
	}
	return nil
}

// stopsFirst tells whether the container's stop begins with this.
func (p *worker) stopsFirst(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping.Has(id) {
		return false
	}
	p.stopping.Insert(id)
	return true
}

// stopAll stops the pod's containers, and its sandboxes. grace 0: containers have their own.
func (p *worker) stopAll(ctx context.Context, pod *corev1.Pod, have *kubecontainer.PodStatus, grace time.Duration) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	victims := running(have)
	order := newTurns(pod, victims)
	for _, c := range victims {
		spec := kubecontainer.GetContainerSpec(pod, c.Name)
		if spec == nil { // nothing is known of it but that it runs
			spec = &corev1.Container{Name: c.Name}
		}
		s := stop{Container: spec, id: c.ID, grace: grace, turns: order}
		if grace == 0 {
			s.grace = plan.Grace(pod, spec, plan.Unknown)
		}
		wg.Go(func() {
			if err := p.stop(ctx, pod, s); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, sandbox := range have.SandboxStatuses {
		if err := p.Runtime.StopPodSandbox(ctx, sandbox.Id); err != nil && !crierror.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("stop sandbox %s: %w", sandbox.Id, err))
		}
	}
	return errors.Join(errs...)
}

// turns are the order in which containers stop: sidecars after those that they serve, and in the reverse order of their start.
type turns struct {
	before map[string][]<-chan struct{}
	ended  map[string]func()
}

// newTurns is nil where there is no order.
func newTurns(pod *corev1.Pod, victims []*kubecontainer.Status) *turns {
	t := &turns{before: map[string][]<-chan struct{}{}, ended: map[string]func(){}}
	ends := map[string]chan struct{}{}
	for _, c := range victims {
		end := make(chan struct{})
		ends[c.Name], t.ended[c.Name] = end, sync.OnceFunc(func() { close(end) })
	}
	var earlier []<-chan struct{}
	for i := range pod.Spec.Containers {
		if end, runs := ends[pod.Spec.Containers[i].Name]; runs {
			earlier = append(earlier, end)
		}
	}
	sidecars := false
	for i := len(pod.Spec.InitContainers) - 1; i >= 0; i-- {
		c := &pod.Spec.InitContainers[i]
		if !podutil.IsRestartableInitContainer(c) {
			continue
		}
		sidecars = true
		t.before[c.Name] = earlier
		if end, runs := ends[c.Name]; runs {
			earlier = append(earlier[:len(earlier):len(earlier)], end)
		}
	}
	if !sidecars {
		return nil
	}
	return t
}

func (t *turns) wait(ctx context.Context, name string, most time.Duration) {
	if t == nil || most <= 0 {
		return
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	for _, end := range t.before[name] {
		select {
		case <-end:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (t *turns) over(name string) {
	if t != nil && t.ended[name] != nil {
		t.ended[name]()
	}
}

// event is recorded for a container. Its id would make each one another event: its name is said instead.
func (p *worker) event(pod *corev1.Pod, c *corev1.Container, id, kind, reason, message string) {
	if id != "" {
		message = strings.ReplaceAll(message, id, c.Name)
	}
	p.Events.Event(p.reference(pod, c), kind, reason, message)
}

// reference is a container of a pod, as events name it.
func (p *worker) reference(pod *corev1.Pod, c *corev1.Container) *corev1.ObjectReference {
	ref, err := kubecontainer.GenerateContainerRef(pod, c)
	if err != nil {
		return &corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
	}
	return ref
}
