package simulation

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// state is how far a pod's containers are.
type state struct {
	phase  corev1.PodPhase
	reason string // why the containers ended; empty while they run
	code   int32

	podReason, podMessage string // said of the pod, unless they are empty
}

var (
	running   = state{phase: corev1.PodRunning}
	succeeded = state{phase: corev1.PodSucceeded, reason: "Completed"}
	failed    = state{phase: corev1.PodFailed, reason: "Error", code: 143} // SIGTERM
	overdue   = state{
		phase: corev1.PodFailed, reason: "Error", code: 143,
		podReason: "DeadlineExceeded", podMessage: "Pod was active on the node longer than the specified deadline", // a kubelet's words
	}
)

func (s state) ended() bool { return s.reason != "" }

// place is where a pod runs: the addresses of its node, and its own unless it has them.
type place struct{ hosts, pods []string }

// podStatus is what a kubelet would say of a pod that has come to a state. What it says of the same state again is the
// same; what others wrote into the status stays.
func podStatus(pod *corev1.Pod, at place, to state, now metav1.Time) corev1.PodStatus {
	s := *pod.Status.DeepCopy()
	s.Phase, s.ObservedGeneration, s.Resize = to.phase, pod.Generation, ""
	if to.podReason != "" {
		s.Reason, s.Message = to.podReason, to.podMessage
	}
	if s.StartTime == nil {
		s.StartTime = &now
	}
	if len(s.HostIPs) == 0 {
		for i, ip := range at.hosts {
			if i == 0 {
				s.HostIP = ip
			}
			s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
		}
	}
	if len(s.PodIPs) == 0 {
		for i, ip := range at.pods {
			if i == 0 {
				s.PodIP = ip
			}
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
		}
	}
	r := reporter{pod: pod.UID, to: to, now: now}
	s.InitContainerStatuses = r.containers(pod.Spec.InitContainers, pod.Status.InitContainerStatuses, r.init)
	s.ContainerStatuses = r.containers(pod.Spec.Containers, pod.Status.ContainerStatuses, r.regular)
	var ephemeral []corev1.Container
	for _, c := range pod.Spec.EphemeralContainers {
		ephemeral = append(ephemeral, corev1.Container(c.EphemeralContainerCommon))
	}
	s.EphemeralContainerStatuses = r.containers(ephemeral, pod.Status.EphemeralContainerStatuses, r.ephemeral)
	conditions(pod, &s, to, now)
	return s
}

type reporter struct {
	pod types.UID
	to  state
	now metav1.Time
}

func (r reporter) containers(specs []corev1.Container, before []corev1.ContainerStatus, report func(corev1.Container, *corev1.ContainerStatus)) []corev1.ContainerStatus {
	if len(specs) == 0 {
		return nil
	}
	all := make([]corev1.ContainerStatus, len(specs))
	for i, spec := range specs {
		s := &all[i]
		if at := slices.IndexFunc(before, func(s corev1.ContainerStatus) bool { return s.Name == spec.Name }); at >= 0 {
			s = before[at].DeepCopy()
		}
		r.image(spec, s)
		s.Resources, s.AllocatedResources = nil, nil
		if len(spec.Resources.Requests)+len(spec.Resources.Limits) > 0 {
			s.Resources = &corev1.ResourceRequirements{Limits: spec.Resources.Limits.DeepCopy(), Requests: spec.Resources.Requests.DeepCopy()}
			s.AllocatedResources = spec.Resources.Requests.DeepCopy()
		}
		report(spec, s)
		all[i] = *s
	}
	return all
}

// image notes what a container runs. Another image than before means that it was started again.
func (r reporter) image(spec corev1.Container, s *corev1.ContainerStatus) {
	if s.Name == spec.Name && s.Image == spec.Image && s.ContainerID != "" {
		return
	}
	if s.ContainerID != "" && s.State.Running != nil {
		s.RestartCount++
		s.LastTerminationState = corev1.ContainerState{Terminated: r.terminated(s.State, s.ContainerID, succeeded)}
		s.State = corev1.ContainerState{}
	}
	s.Name, s.Image, s.ImageID = spec.Name, spec.Image, imageID(spec.Image)
	s.ContainerID = fmt.Sprintf("simulated://%x", sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", r.pod, spec.Name, s.RestartCount)))
}

// imageID names an image by a digest, as runtimes do.
func imageID(image string) string {
	if strings.Contains(image, "@") {
		return image
	}
	return fmt.Sprintf("%s@sha256:%x", image, sha256.Sum256([]byte(image)))
}

func (r reporter) regular(_ corev1.Container, s *corev1.ContainerStatus) {
	if r.to.ended() {
		r.end(s, r.to)
		s.Ready, s.Started = false, ptr.To(false)
		return
	}
	r.run(s)
	s.Ready, s.Started = true, ptr.To(true)
}

func (r reporter) init(spec corev1.Container, s *corev1.ContainerStatus) {
	if spec.RestartPolicy != nil && *spec.RestartPolicy == corev1.ContainerRestartPolicyAlways {
		r.regular(spec, s)
		return
	}
	r.end(s, succeeded)
	s.Ready, s.Started = true, ptr.To(false)
}

func (r reporter) ephemeral(_ corev1.Container, s *corev1.ContainerStatus) {
	if r.to.ended() {
		r.end(s, r.to)
		return
	}
	r.run(s)
}

func (r reporter) run(s *corev1.ContainerStatus) {
	if s.State.Running == nil {
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: r.now}}
	}
}

func (r reporter) end(s *corev1.ContainerStatus, to state) {
	if s.State.Terminated == nil {
		s.State = corev1.ContainerState{Terminated: r.terminated(s.State, s.ContainerID, to)}
	}
}

func (r reporter) terminated(from corev1.ContainerState, id string, to state) *corev1.ContainerStateTerminated {
	started := r.now
	if from.Running != nil {
		started = from.Running.StartedAt
	}
	return &corev1.ContainerStateTerminated{ExitCode: to.code, Reason: to.reason, StartedAt: started, FinishedAt: r.now, ContainerID: id}
}

// conditions writes those that are a kubelet's.
func conditions(pod *corev1.Pod, s *corev1.PodStatus, to state, now metav1.Time) {
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress // what is asked for is given at once
	})
	set := func(c corev1.PodCondition) {
		c.ObservedGeneration, c.LastTransitionTime = pod.Generation, now
		for i, before := range s.Conditions {
			if before.Type != c.Type {
				continue
			}
			if before.Status == c.Status {
				c.LastTransitionTime = before.LastTransitionTime
			}
			c.LastProbeTime = before.LastProbeTime
			s.Conditions[i] = c
			return
		}
		s.Conditions = append(s.Conditions, c)
	}
	isTrue := corev1.PodCondition{Status: corev1.ConditionTrue}
	ready, sandbox, initialized := isTrue, isTrue, isTrue
	switch to.phase {
	case corev1.PodSucceeded:
		ready = corev1.PodCondition{Status: corev1.ConditionFalse, Reason: "PodCompleted"}
		sandbox.Status, initialized.Reason = corev1.ConditionFalse, "PodCompleted"
	case corev1.PodFailed:
		ready = corev1.PodCondition{Status: corev1.ConditionFalse, Reason: "PodFailed"}
		sandbox.Status = corev1.ConditionFalse
	}
	containersReady := ready
	if missing := gates(pod, s); ready.Status == corev1.ConditionTrue && len(missing) > 0 {
		ready = corev1.PodCondition{
			Status: corev1.ConditionFalse, Reason: "ReadinessGatesNotReady", Message: "not true: " + strings.Join(missing, ", "),
		}
	}
	if !slices.ContainsFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled }) {
		set(corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	}
	sandbox.Type, initialized.Type = corev1.PodReadyToStartContainers, corev1.PodInitialized
	ready.Type, containersReady.Type = corev1.PodReady, corev1.ContainersReady
	for _, c := range []corev1.PodCondition{sandbox, initialized, ready, containersReady} {
		set(c)
	}
}

// gates are the pod's readiness gates that are not open.
func gates(pod *corev1.Pod, s *corev1.PodStatus) []string {
	var shut []string
	for _, gate := range pod.Spec.ReadinessGates {
		if !slices.ContainsFunc(s.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		}) {
			shut = append(shut, string(gate.ConditionType))
		}
	}
	return shut
}
