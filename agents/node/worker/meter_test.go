package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// ends are containers' ends as they are counted.
type ends []string

func (*ends) Turned(string, time.Duration)    {}
func (*ends) Ran(time.Duration)               {}
func (*ends) PodStarted(bool, error)          {}
func (*ends) OwnUsersFailed()                 {}
func (*ends) ContainerStarted(string, string) {}
func (e *ends) ContainerEnded(kind string, exitCode int32, reason string) {
	*e = append(*e, fmt.Sprint(kind, " ", exitCode, " ", reason))
}

// TestMeterEnds: a container's end is counted once, when it is told of first.
func TestMeterEnds(t *testing.T) {
	t.Parallel()
	status := func(name string, code int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error"}}}
	}
	var got ends
	running := corev1.ContainerStatus{Name: "a"}
	meterEnds(&got, "container", []corev1.ContainerStatus{running}, []corev1.ContainerStatus{status("a", 139), {Name: "b"}})
	meterEnds(&got, "container", []corev1.ContainerStatus{status("a", 139), {Name: "b"}}, []corev1.ContainerStatus{status("a", 139), status("b", 1)})
	meterEnds(&got, "init_container", nil, []corev1.ContainerStatus{status("c", 2)})
	if diff := cmp.Diff(ends{"container 139 Error", "container 1 Error", "init_container 2 Error"}, got); diff != "" {
		t.Errorf("ends (-want +got):\n%s", diff)
	}
}
