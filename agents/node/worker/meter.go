package worker

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// meter counts one look at the pod.
func (p *worker) meter(phase Phase, started bool, began time.Time) {
	operation := "sync"
	switch {
	case phase == Terminating:
		operation = "kill"
	case phase > Terminating:
		operation = "terminated"
	case !started:
		operation = "create"
	}
	p.Meter.Turned(operation, time.Since(began))
}

// tell tells the API how the pod fares, and counts how long it took to run.
func (p *worker) tell(pod *corev1.Pod, status *corev1.PodStatus) {
	if p.Meter != nil && status.Phase == corev1.PodRunning {
		if told, ok := p.Status.Get(p.uid); ok && told.Phase == corev1.PodPending {
			p.Meter.Ran(time.Since(p.seen))
		}
	}
	p.Status.Set(pod, status)
}

// meterContainer counts a container that was to start.
func (s *pass) meterContainer(ctx context.Context, c *corev1.Container, err error) {
	if s.Meter == nil || err != nil && ctx.Err() != nil {
		return
	}
	failure := ""
	if err != nil {
		failure = "Unknown"
		if waiting := (*podstatus.Waiting)(nil); errors.As(err, &waiting) {
			failure = waiting.Reason
		}
	}
	s.Meter.ContainerStarted(kindOf(s.pod, c), failure)
}

// meterEnds counts containers of a kind that have ended since they were told of last.
func meterEnds(m Meter, kind string, before, after []corev1.ContainerStatus) {
	for i := range after {
		end := after[i].State.Terminated
		if end == nil || slices.ContainsFunc(before, func(s corev1.ContainerStatus) bool { return s.Name == after[i].Name && s.State.Terminated != nil }) {
			continue
		}
		m.ContainerEnded(kind, end.ExitCode, end.Reason)
	}
}

// kindOf is which of its containers one is, in the words of the kubelet's metrics.
func kindOf(pod *corev1.Pod, c *corev1.Container) string {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == c.Name {
			return "init_container"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == c.Name {
			return "ephemeral_container"
		}
	}
	return "container"
}
