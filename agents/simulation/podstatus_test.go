package simulation

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

var (
	at    = place{hosts: []string{"198.18.0.1"}, pods: []string{"10.0.0.7"}}
	first = metav1.NewTime(time.Unix(1000, 0))
	later = metav1.NewTime(time.Unix(2000, 0))
)

func conditionsOf(s corev1.PodStatus) map[corev1.PodConditionType]corev1.ConditionStatus {
	all := map[corev1.PodConditionType]corev1.ConditionStatus{}
	for _, c := range s.Conditions {
		all[c.Type] = c.Status
	}
	return all
}

func TestPodStatus(t *testing.T) {
	t.Parallel()
	const yes, no = corev1.ConditionTrue, corev1.ConditionFalse
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: "u", Generation: 3},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{
				{Name: "before", Image: "a"}, {Name: "beside", Image: "b", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)},
			},
			Containers: []corev1.Container{{Name: "main", Image: "c@sha256:1", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
			}}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "d"}}},
			ReadinessGates:      []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}},
		},
		Status: corev1.PodStatus{QOSClass: corev1.PodQOSBurstable, Message: "said by somebody", Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: yes, LastTransitionTime: first},
			{Type: corev1.PodResizePending, Status: yes},
			{Type: "example.com/other", Status: no},
		}},
	}
	s := podStatus(&pod, at, running, first)
	if s.Phase != corev1.PodRunning || s.PodIP != "10.0.0.7" || s.HostIP != "198.18.0.1" || len(s.PodIPs) != 1 || len(s.HostIPs) != 1 ||
		!s.StartTime.Equal(&first) || s.ObservedGeneration != 3 || s.QOSClass != corev1.PodQOSBurstable || s.Message != "said by somebody" {
		t.Errorf("got %+v", s)
	}
	want := map[corev1.PodConditionType]corev1.ConditionStatus{
		corev1.PodScheduled: yes, "example.com/other": no, corev1.PodReadyToStartContainers: yes, corev1.PodInitialized: yes,
		corev1.ContainersReady: yes, corev1.PodReady: no, // the gate is shut
	}
	if diff := cmp.Diff(want, conditionsOf(s)); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if c := s.InitContainerStatuses[0]; c.State.Terminated == nil || c.State.Terminated.Reason != "Completed" || !c.Ready {
		t.Errorf("init container: %+v", c)
	}
	if c := s.InitContainerStatuses[1]; c.State.Running == nil || !c.Ready || !*c.Started {
		t.Errorf("sidecar: %+v", c)
	}
	if c := s.EphemeralContainerStatuses[0]; c.State.Running == nil {
		t.Errorf("ephemeral container: %+v", c)
	}
	main := s.ContainerStatuses[0]
	if main.State.Running == nil || !main.Ready || !*main.Started || main.Image != "c@sha256:1" || main.ImageID != "c@sha256:1" ||
		!strings.HasPrefix(main.ContainerID, "simulated://") || main.AllocatedResources.Cpu().String() != "1" || main.Resources.Requests.Cpu().String() != "1" {
		t.Errorf("container: %+v", main)
	}

	// The same is said again, whenever.
	pod.Status = s
	if diff := cmp.Diff(s, podStatus(&pod, at, running, later)); diff != "" {
		t.Errorf("said again (-before +after):\n%s", diff)
	}

	// The gate opens, a container gets another image and more CPU.
	pod.Generation = 4
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: "example.com/gate", Status: yes})
	pod.Spec.Containers[0].Image = "e"
	pod.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("2")
	s = podStatus(&pod, at, running, later)
	want["example.com/gate"], want[corev1.PodReady] = yes, yes
	if diff := cmp.Diff(want, conditionsOf(s)); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	again := s.ContainerStatuses[0]
	if again.RestartCount != 1 || again.ContainerID == main.ContainerID || again.LastTerminationState.Terminated == nil || again.LastTerminationState.Terminated.ContainerID != main.ContainerID ||
		!again.State.Running.StartedAt.Equal(&later) || again.AllocatedResources.Cpu().String() != "2" {
		t.Errorf("container with another image: %+v", again)
	}
	for _, c := range s.Conditions {
		if want := c.Type == corev1.PodReady; c.LastTransitionTime.Equal(&later) != want {
			t.Errorf("condition %s changed at %s", c.Type, c.LastTransitionTime)
		}
	}

	// It ends.
	for _, end := range []state{succeeded, failed, overdue} {
		pod.Status = s
		got := podStatus(&pod, at, end, later)
		c := got.ContainerStatuses[0]
		if got.Phase != end.phase || c.State.Terminated == nil || c.State.Terminated.ExitCode != end.code || c.Ready || *c.Started || conditionsOf(got)[corev1.PodReady] != no || got.Reason != end.podReason {
			t.Errorf("%s: %+v", end.phase, got)
		}
	}
}
