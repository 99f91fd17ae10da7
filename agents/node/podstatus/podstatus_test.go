package podstatus

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/utils/ptr"
)

var began = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// pod has containers "a", "b", init containers "i", "j" and sidecars "s", "t".
func pod(policy corev1.RestartPolicy, names ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "1", Generation: 3}}
	p.Spec.RestartPolicy = policy
	for _, name := range names {
		c := corev1.Container{Name: name, Image: "image"}
		switch name[0] {
		case 'i', 'j':
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		case 's', 't':
			c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		default:
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
	}
	return p
}

// reported is what the runtime says, the newest attempt of a container first: "a:running", "a:created", "a:unknown", or its exit code.
func reported(reports ...string) *kubecontainer.PodStatus {
	status := &kubecontainer.PodStatus{IPs: []string{"10.0.0.7"}, SandboxStatuses: []*runtimeapi.PodSandboxStatus{{
		Metadata: &runtimeapi.PodSandboxMetadata{}, Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.0.0.7"},
	}}}
	attempts := map[string]int{}
	for _, r := range reports {
		attempts[strings.SplitN(r, ":", 2)[0]]++
	}
	for _, r := range reports {
		name, state, _ := strings.Cut(r, ":")
		attempts[name]--
		n := attempts[name]
		s := &kubecontainer.Status{
			ID: kubecontainer.BuildContainerID("fake", fmt.Sprintf("%s%d", name, n)), Name: name, Image: "image", ImageRef: "image@sha256:1",
			RestartCount: n, CreatedAt: began.Add(time.Duration(n) * time.Minute), StartedAt: began.Add(time.Duration(n) * time.Minute),
		}
		switch state {
		case "running":
			s.State = kubecontainer.ContainerStateRunning
		case "created":
			s.State = kubecontainer.ContainerStateCreated
		case "unknown":
			s.State = kubecontainer.ContainerStateUnknown
		default:
			s.State, s.FinishedAt, s.Reason = kubecontainer.ContainerStateExited, began.Add(time.Duration(n)*time.Minute+time.Second), "Error"
			_, _ = fmt.Sscan(state, &s.ExitCode)
		}
		status.ContainerStatuses = append(status.ContainerStatuses, s)
		status.ActiveContainerStatuses = append(status.ActiveContainerStatuses, s)
	}
	return status
}

// line shows a status: its phase, its containers, the conditions that are true.
func line(s *corev1.PodStatus) string {
	parts := []string{string(s.Phase)}
	if s.Reason != "" {
		parts[0] += "(" + s.Reason + ")"
	}
	for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
		text := c.Name
		switch {
		case c.State.Running != nil:
			text += " running"
		case c.State.Terminated != nil:
			text += fmt.Sprintf(" %s(%d)", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
		default:
			text += " " + c.State.Waiting.Reason
		}
		if last := c.LastTerminationState.Terminated; last != nil {
			text += fmt.Sprintf(" after %s(%d)", last.Reason, last.ExitCode)
		}
		if c.RestartCount > 0 {
			text += fmt.Sprintf(" x%d", c.RestartCount)
		}
		if c.Started != nil && *c.Started {
			text += " started"
		}
		if c.Ready {
			text += " ready"
		}
		parts = append(parts, text)
	}
	var conditions []string
	for _, c := range s.Conditions {
		if c.Status == corev1.ConditionTrue {
			conditions = append(conditions, string(c.Type))
		}
	}
	return strings.Join(append(parts, strings.Join(conditions, " ")), "; ")
}

func TestStatus(t *testing.T) {
	t.Parallel()
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	all := "PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled"
	initialized := "PodReadyToStartContainers Initialized PodScheduled"
	for name, tt := range map[string]struct {
		pod    *corev1.Pod
		have   []string
		change func(*Pod)
		want   string
	}{
		"new": {
			pod: pod(always, "i", "a"), change: func(p *Pod) { p.Have.SandboxStatuses = nil },
			want: "Pending; i PodInitializing; a PodInitializing; PodScheduled",
		},
		"nothing but a sandbox": {
			pod: pod(always, "a"), want: "Pending; a ContainerCreating; " + initialized,
		},
		"runs": {pod: pod(always, "a", "b"), have: []string{"a:running", "b:running"}, want: "Running; a running started ready; b running started ready; " + all},
		"no image": {
			pod: pod(always, "a"), change: func(p *Pod) { p.Waiting = map[string]Waiting{"a": {"ErrImagePull", "none"}} },
			want: "Pending; a ErrImagePull; " + initialized,
		},
		"one runs, one has no image": {
			pod: pod(always, "a", "b"), have: []string{"a:running"},
			change: func(p *Pod) { p.Waiting = map[string]Waiting{"b": {"ImagePullBackOff", ""}} },
			want:   "Pending; a running started ready; b ImagePullBackOff; " + initialized,
		},
		"crash loop": {
			pod: pod(always, "a"), have: []string{"a:1", "a:2"},
			change: func(p *Pod) { p.Waiting = map[string]Waiting{"a": {"CrashLoopBackOff", ""}} },
			want:   "Running; a CrashLoopBackOff after Error(1) x1; " + initialized,
		},
		"crashed and up again": {
			pod: pod(always, "a"), have: []string{"a:running", "a:1"},
			want: "Running; a running after Error(1) x1 started ready; " + all,
		},
		"succeeded":           {pod: pod(never, "a", "b"), have: []string{"a:0", "b:0"}, want: "Succeeded; a Error(0); b Error(0); PodReadyToStartContainers Initialized PodScheduled"},
		"failed":              {pod: pod(never, "a", "b"), have: []string{"a:0", "b:1"}, want: "Failed; a Error(0); b Error(1); " + initialized},
		"failed, to be again": {pod: pod(onFailure, "a", "b"), have: []string{"a:0", "b:1"}, want: "Running; a Error(0); b Error(1); " + initialized},
		"failed and stopped": {
			pod: pod(always, "a", "b"), have: []string{"a:0", "b:137"}, change: func(p *Pod) { p.Stopped = true },
			want: "Failed; a Error(0); b Error(137); " + initialized,
		},
		"stopped with success": {
			pod: pod(always, "a"), have: []string{"a:0"}, change: func(p *Pod) { p.Stopped = true },
			want: "Succeeded; a Error(0); " + initialized,
		},
		"what is over stays over": {
			pod: pod(always, "a"), have: []string{"a:running"},
			change: func(p *Pod) {
				p.Old = &corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}
			},
			want: "Failed(Evicted); a running started ready; " + initialized,
		},
		"evicted": {
			pod: pod(always, "a"), have: []string{"a:running"},
			change: func(p *Pod) {
				p.Evicted = &Evicted{Reason: "Evicted", Condition: &corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
			},
			want: "Failed(Evicted); a running started ready; DisruptionTarget " + initialized,
		},

		"init runs": {
			pod: pod(always, "i", "j", "a"), have: []string{"i:running"},
			want: "Pending; i running started; j PodInitializing; a PodInitializing; PodReadyToStartContainers PodScheduled",
		},
		"init is done": {
			pod: pod(always, "i", "a"), have: []string{"i:0"},
			want: "Pending; i Error(0) ready; a PodInitializing; " + initialized,
		},
		"init failed for good": {
			pod: pod(never, "i", "a"), have: []string{"i:1"},
			want: "Failed; i Error(1); a PodInitializing; PodReadyToStartContainers PodScheduled",
		},
		"init is forgotten": {
			pod: pod(always, "i", "a"), have: []string{"a:running"},
			want: "Running; i Completed(0) ready; a running started ready; " + all,
		},
		"sidecar comes up": {
			pod: pod(always, "s", "a"), have: []string{"s:running"},
			change: func(p *Pod) { p.Pod.Spec.InitContainers[0].StartupProbe = &corev1.Probe{}; p.Probed = true },
			want:   "Pending; s running; a PodInitializing; PodReadyToStartContainers PodScheduled",
		},
		"sidecar is up": {
			pod: pod(always, "s", "a"), have: []string{"s:running", "a:running"},
			want: "Running; s running started ready; a running started ready; " + all,
		},
		"sidecar is not ready": {
			pod: pod(always, "s", "a"), have: []string{"s:running", "a:running"},
			change: func(p *Pod) { p.Pod.Spec.InitContainers[0].ReadinessProbe = &corev1.Probe{}; p.Probed = true },
			want:   "Running; s running started; a running started ready; " + initialized,
		},
		"all but the sidecar is done": {
			pod: pod(never, "s", "a"), have: []string{"s:running", "a:0"}, want: "Running; s running started ready; a Error(0); " + initialized,
		},
		"sidecar was stopped last": {
			pod: pod(never, "s", "a"), have: []string{"s:137", "a:0"}, want: "Succeeded; s Error(137); a Error(0); " + initialized,
		},

		"readiness": {
			pod: pod(always, "a", "b"), have: []string{"a:running", "b:running"},
			change: func(p *Pod) {
				for i := range p.Pod.Spec.Containers {
					p.Pod.Spec.Containers[i].ReadinessProbe = &corev1.Probe{}
				}
				p.Probed, p.Probes = true, map[string]Probes{"a0": {Readiness: ptr.To(true)}}
			},
			want: "Running; a running started ready; b running started; " + initialized,
		},
		"startup": {
			pod: pod(always, "a"), have: []string{"a:running"},
			change: func(p *Pod) { p.Probed = true; p.Pod.Spec.Containers[0].StartupProbe = &corev1.Probe{} },
			want:   "Running; a running; " + initialized,
		},
		"readiness after the agent began anew": {
			pod: pod(always, "a"), have: []string{"a:running"},
			change: func(p *Pod) {
				p.Probed, p.Since = true, func(*corev1.ContainerStatus) bool { return false }
				p.Pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{}
				p.Pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			},
			want: "Running; a running started ready; " + all,
		},
		"readiness gate": {
			pod: pod(always, "a"), have: []string{"a:running"},
			change: func(p *Pod) { p.Pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "x"}} },
			want:   "Running; a running started ready; PodReadyToStartContainers Initialized ContainersReady PodScheduled",
		},
		"others' conditions": {
			pod: pod(always, "a"), have: []string{"a:running"},
			change: func(p *Pod) {
				p.Pod.Status.Conditions = []corev1.PodCondition{{Type: "x", Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionFalse}}
			},
			want: "Running; a running started ready; x " + all,
		},

		"gone from the runtime": {
			pod: pod(always, "a"),
			change: func(p *Pod) {
				p.Old = &corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}
			},
			want: "Running; a ContainerCreating after ContainerStatusUnknown(137) x1; " + initialized,
		},
		"gone from the runtime after its end": {
			pod: pod(never, "a"),
			change: func(p *Pod) {
				p.Old = &corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
					Name: "a", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}},
				}}}
			},
			want: "Succeeded; a Completed(0); " + initialized,
		},
		"the runtime does not know": {
			pod: pod(never, "a"), have: []string{"a:unknown"},
			change: func(p *Pod) {
				p.Old = &corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}
			},
			want: "Failed; a ContainerStatusUnknown(137) x1; " + initialized,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Pod{Pod: tt.pod, Have: reported(tt.have...), NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
			if tt.change != nil {
				tt.change(&p)
			}
			if diff := cmp.Diff(tt.want, line(Status(p))); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// TestAddresses: one of each family, the node's first one first; a pod in the node's network has the node's.
func TestAddresses(t *testing.T) {
	t.Parallel()
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for name, tt := range map[string]struct {
		node []netip.Addr
		pod  []string
		host bool
		want string
	}{
		"one":      {[]netip.Addr{four}, []string{"10.0.0.7"}, false, "10.0.0.7"},
		"dual":     {[]netip.Addr{four, six}, []string{"FD00::7", "10.0.0.7", "10.0.0.8"}, false, "10.0.0.7 fd00::7"},
		"six":      {[]netip.Addr{six}, []string{"10.0.0.7", "fd00::7"}, false, "fd00::7 10.0.0.7"},
		"host":     {[]netip.Addr{four, six}, nil, true, "192.0.2.1 2001:db8::1"},
		"host had": {[]netip.Addr{four, six}, []string{"192.0.2.1"}, true, "192.0.2.1 2001:db8::1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Pod{Pod: pod(corev1.RestartPolicyAlways, "a"), Have: reported(), NodeIPs: tt.node}
			p.Pod.Spec.HostNetwork, p.Have.IPs = tt.host, tt.pod
			s := Status(p)
			var ips []string
			for _, ip := range s.PodIPs {
				ips = append(ips, ip.IP)
			}
			if got := strings.Join(ips, " "); got != tt.want || s.PodIP != ips[0] || s.HostIP != tt.node[0].String() || len(s.HostIPs) != len(tt.node) {
				t.Errorf("got %s (%s) on %s, want %s", got, s.PodIP, s.HostIP, tt.want)
			}
		})
	}
}

// TestResources: what a container runs with is reported, but where it asked for less than a cgroup can say.
func TestResources(t *testing.T) {
	t.Parallel()
	p := Pod{Pod: pod(corev1.RestartPolicyAlways, "a"), Have: reported("a:running")}
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	p.Pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list("1m", "10Mi"), Limits: list("100m", "20Mi")}
	p.Have.ContainerStatuses[0].Resources = &kubecontainer.ContainerResources{
		CPURequest: ptr.To(resource.MustParse("2m")), CPULimit: ptr.To(resource.MustParse("50m")), MemoryLimit: ptr.To(resource.MustParse("15Mi")),
	}
	s := Status(p).ContainerStatuses[0]
	want := &corev1.ResourceRequirements{Requests: list("1m", "10Mi"), Limits: list("50m", "15Mi")}
	if diff := cmp.Diff(want, s.Resources); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(list("1m", "10Mi"), s.AllocatedResources); diff != "" {
		t.Error(diff)
	}
}
