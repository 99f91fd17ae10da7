package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// leastGrace is what every container has to stop in, so that none is killed that would have stopped by itself.
const leastGrace = 2 * time.Second

// Grace is how long a container has to stop when it is stopped for a reason: the pod's deletion says so, or its probe, or the pod.
func Grace(pod *corev1.Pod, c *corev1.Container, reason Reason) time.Duration {
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		return seconds(*pod.DeletionGracePeriodSeconds)
	case pod.Spec.TerminationGracePeriodSeconds == nil:
		return leastGrace
	}
	var probe *corev1.Probe
	switch reason {
	case Startup:
		probe = c.StartupProbe
	case Liveness:
		probe = c.LivenessProbe
	}
	if probe != nil && probe.TerminationGracePeriodSeconds != nil {
		return seconds(*probe.TerminationGracePeriodSeconds)
	}
	return seconds(*pod.Spec.TerminationGracePeriodSeconds)
}

// Rest is what is left of a grace period for the runtime, after hooks and others' turns took their part of it.
func Rest(grace, took time.Duration) time.Duration { return max(grace-took, leastGrace) }

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
