package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
	"k8s.io/utils/ptr"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// spec is a pod of containers "a", "b", after init containers "i", "j" and, where they stay, "s", "t".
func spec(policy corev1.RestartPolicy, containers ...string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "1"}}
	pod.Spec.RestartPolicy = policy
	pod.Spec.TerminationGracePeriodSeconds = ptr.To[int64](30)
	for _, name := range containers {
		c := corev1.Container{Name: name, Image: "image"}
		switch name[0] {
		case 'i', 'j':
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		case 's', 't':
			c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		case 'e':
			pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{
				EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "image"}, TargetContainerName: "a",
			})
		default:
			pod.Spec.Containers = append(pod.Spec.Containers, c)
		}
	}
	return pod
}

func find(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if c := &pod.Spec.EphemeralContainers[i]; c.Name == name {
			return (*corev1.Container)(&c.EphemeralContainerCommon)
		}
	}
	return nil
}

// have is what the runtime reports, the newest first: "a:running", "a:0" and "a:1" for exit codes, "a:created", "a:unknown"; "ready"
// and "notready" are sandboxes.
func have(pod *corev1.Pod, reports ...string) *kubecontainer.PodStatus {
	status := &kubecontainer.PodStatus{ID: pod.UID, Name: pod.Name, Namespace: pod.Namespace}
	attempts := map[string]int{}
	for _, r := range reports {
		name, _, _ := strings.Cut(r, ":")
		attempts[name]++
	}
	sandboxes := attempts["ready"] + attempts["notready"]
	for n, r := range reports {
		name, state, _ := strings.Cut(r, ":")
		if name == "ready" || name == "notready" {
			sandboxes--
			sandbox := &runtimeapi.PodSandboxStatus{
				Id: fmt.Sprintf("box%d", sandboxes), Metadata: &runtimeapi.PodSandboxMetadata{Attempt: uint32(sandboxes)},
				Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.0.0.1"},
				Linux:   &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: &runtimeapi.NamespaceOption{}}},
			}
			if name == "notready" {
				sandbox.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
			}
			status.SandboxStatuses = append(status.SandboxStatuses, sandbox)
			continue
		}
		attempts[name]--
		s := &kubecontainer.Status{
			ID: kubecontainer.BuildContainerID("fake", fmt.Sprintf("%s%d", name, attempts[name])), Name: name, RestartCount: attempts[name],
			CreatedAt: now.Add(-time.Hour - time.Duration(n)*time.Minute),
		}
		if c := find(pod, name); c != nil {
			s.Hash = kubecontainer.HashContainer(c)
		}
		switch state {
		case "running":
			s.State = kubecontainer.ContainerStateRunning
		case "created":
			s.State = kubecontainer.ContainerStateCreated
		case "unknown":
			s.State = kubecontainer.ContainerStateUnknown
		default:
			s.State, s.FinishedAt = kubecontainer.ContainerStateExited, now.Add(-time.Minute)
			_, _ = fmt.Sscan(state, &s.ExitCode)
		}
		status.ContainerStatuses = append(status.ContainerStatuses, s)
	}
	return status
}

func describe(actions []Action) string {
	var lines []string
	for _, a := range actions {
		switch a := a.(type) {
		case StopPod:
			lines = append(lines, "stop pod")
		case StopContainer:
			lines = append(lines, fmt.Sprintf("stop %s %s: %s", a.ID.ID, a.Grace, a.Message))
		case RemoveContainer:
			lines = append(lines, "remove "+a.ID.ID)
		case CreateSandbox:
			lines = append(lines, fmt.Sprintf("sandbox %d", a.Attempt))
		case ResizeContainer:
			lines = append(lines, fmt.Sprintf("resize %s %s", a.ID.ID, a.Resource))
		case ResizePod:
			lines = append(lines, "resize pod")
		case StartContainer:
			line := fmt.Sprintf("start %s%d", a.Spec.Name, a.Restarts)
			if a.Needed {
				line += "!"
			}
			if a.Target != "" {
				line += " at " + a.Target
			}
			lines = append(lines, line)
		case Wait:
			lines = append(lines, fmt.Sprintf("wait %s %s: %s", a.Spec.Name, a.Until.Sub(now), a.Message))
		}
	}
	return strings.Join(lines, "\n")
}

func TestDecide(t *testing.T) {
	t.Parallel()
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	success, failure := results.Success, results.Failure
	for name, tt := range map[string]struct {
		pod    *corev1.Pod
		have   []string
		change func(*Pod)
		want   []string
	}{
		"new":          {pod: spec(always, "a", "b"), want: []string{"stop pod", "sandbox 0", "start a0", "start b0"}},
		"new, init":    {pod: spec(always, "i", "a"), want: []string{"stop pod", "sandbox 0", "start i0!"}},
		"new, sidecar": {pod: spec(always, "s", "a"), want: []string{"stop pod", "sandbox 0", "start s0"}},
		"runs":         {pod: spec(always, "a", "b"), have: []string{"ready", "a:running", "b:running"}},
		"one is missing": {
			pod: spec(always, "a", "b"), have: []string{"ready", "a:running"},
			want: []string{"start b0"},
		},
		"created but not started": {pod: spec(always, "a"), have: []string{"ready", "a:created"}, want: []string{"start a1"}},
		"exited, always":          {pod: spec(always, "a"), have: []string{"ready", "a:0"}, want: []string{"start a1"}},
		"exited, the newest counts": {
			pod: spec(onFailure, "a"), have: []string{"ready", "a:0", "a:1"}, want: []string{"stop pod"},
		},
		"failed, on failure":    {pod: spec(onFailure, "a"), have: []string{"ready", "a:1"}, want: []string{"start a1"}},
		"succeeded, on failure": {pod: spec(onFailure, "a"), have: []string{"ready", "a:0"}, want: []string{"stop pod"}},
		"failed, never":         {pod: spec(never, "a"), have: []string{"ready", "a:1"}, want: []string{"stop pod"}},
		"one of two is done":    {pod: spec(never, "a", "b"), have: []string{"ready", "a:1", "b:running"}},
		"deleted":               {pod: spec(always, "a", "b"), have: []string{"ready", "a:running", "b:1"}, change: func(p *Pod) { p.Want.DeletionTimestamp = &metav1.Time{Time: now} }},
		"unknown": {
			pod: spec(always, "a"), have: []string{"ready", "a:unknown"},
			want: []string{`stop a0 30s: Container is in "unknown" state, try killing it before restart`, "start a1"},
		},
		"crash loop": {
			pod: spec(always, "a", "b"), have: []string{"ready", "a:1", "b:1"},
			change: func(p *Pod) { p.Backoffs = Backoffs{"a": {80 * time.Second, now.Add(-2 * time.Minute)}} },
			want:   []string{"wait a 20s: back-off 1m20s restarting failed container=a pod=web_default(1)", "start b1"},
		},
		"crash loop, ran long since": {
			pod: spec(always, "a"), have: []string{"ready", "a:1"},
			change: func(p *Pod) { p.Backoffs = Backoffs{"a": {5 * time.Minute, now.Add(-12 * time.Minute)}} },
			want:   []string{"start a1"},
		},
		"the container's own policy": {
			pod: spec(never, "a", "b"), have: []string{"ready", "a:1", "b:1"},
			change: func(p *Pod) {
				find(p.Want, "a").RestartPolicy = ptr.To(corev1.ContainerRestartPolicyOnFailure)
			},
			want: []string{"start a1"},
		},
		"a rule for the exit code": {
			pod: spec(never, "a", "b"), have: []string{"ready", "a:42", "b:running"},
			change: func(p *Pod) {
				c := find(p.Want, "a")
				c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyNever)
				c.RestartPolicyRules = []corev1.ContainerRestartRule{{
					Action:    corev1.ContainerRestartRuleActionRestart,
					ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
				}}
				p.Have.ContainerStatuses[0].Hash = kubecontainer.HashContainer(c)
			},
			want: []string{"start a1"},
		},
		"another image": {
			pod: spec(never, "a"), have: []string{"ready", "a:running"},
			change: func(p *Pod) { find(p.Want, "a").Image = "other" },
			want:   []string{"stop a0 30s: Container a definition changed, will be restarted", "start a1"},
		},
		"liveness": {
			pod: spec(always, "a"), have: []string{"ready", "a:running"},
			change: func(p *Pod) {
				find(p.Want, "a").LivenessProbe = &corev1.Probe{TerminationGracePeriodSeconds: ptr.To[int64](5)}
				p.Have.ContainerStatuses[0].Hash = kubecontainer.HashContainer(find(p.Want, "a"))
				p.Probes = map[string]Probes{"a0": {Liveness: &failure}}
			},
			want: []string{"stop a0 5s: Container a failed liveness probe, will be restarted", "start a1"},
		},
		"liveness, never": {
			pod: spec(never, "a", "b"), have: []string{"ready", "a:running", "b:running"},
			change: func(p *Pod) { p.Probes = map[string]Probes{"a0": {Liveness: &failure}} },
			want:   []string{"stop a0 30s: Container a failed liveness probe"},
		},
		"startup": {
			pod: spec(always, "a"), have: []string{"ready", "a:running"},
			change: func(p *Pod) { p.Probes = map[string]Probes{"a0": {Startup: &failure, Liveness: &success}} },
			want:   []string{"stop a0 30s: Container a failed startup probe, will be restarted", "start a1"},
		},
		"debugged": {
			pod: spec(always, "a", "e"), have: []string{"ready", "a:running"},
			want: []string{"start e0 at a"},
		},
		"debugged before it is initialized": {
			pod: spec(always, "i", "a", "e"), have: []string{"ready", "i:running"},
			want: []string{"start e0 at a"},
		},
		"debugger has ended": {pod: spec(always, "a", "e"), have: []string{"ready", "a:running", "e:1"}},

		"init runs":    {pod: spec(always, "i", "j", "a"), have: []string{"ready", "i:running"}},
		"init is done": {pod: spec(always, "i", "j", "a"), have: []string{"ready", "i:0"}, want: []string{"start j0!"}},
		"all init are done": {
			pod: spec(always, "i", "j", "a"), have: []string{"ready", "j:0", "i:0"},
			want: []string{"start a0"},
		},
		"init are forgotten, the last is not": {pod: spec(always, "i", "j", "a"), have: []string{"ready", "j:0"}, want: []string{"start a0"}},
		"init are forgotten, the pod runs":    {pod: spec(always, "i", "j", "a", "b"), have: []string{"ready", "a:running"}, want: []string{"start b0"}},
		"init failed":                         {pod: spec(always, "i", "a"), have: []string{"ready", "i:1"}, want: []string{"start i1!"}},
		"init failed, never":                  {pod: spec(never, "i", "a"), have: []string{"ready", "i:1"}, want: []string{"stop pod"}},
		"init failed often": {
			pod: spec(always, "i", "a"), have: []string{"ready", "i:1", "i:1", "i:1"},
			change: func(p *Pod) { p.Backoffs = Backoffs{"i": {80 * time.Second, now.Add(-2 * time.Minute)}} },
			want:   []string{"remove i1", "remove i0", "wait i 20s: back-off 1m20s restarting failed container=i pod=web_default(1)"},
		},

		"sidecar has started, init is next": {
			pod: spec(always, "s", "i", "a"), have: []string{"ready", "s:running"},
			want: []string{"start i0!"},
		},
		"sidecar is not up yet": {
			pod: spec(always, "s", "i", "a"), have: []string{"ready", "s:running"},
			change: func(p *Pod) { find(p.Want, "s").StartupProbe = &corev1.Probe{} },
		},
		"sidecar never comes up": {
			pod: spec(always, "s", "i", "a"), have: []string{"ready", "s:running"},
			change: func(p *Pod) {
				find(p.Want, "s").StartupProbe = &corev1.Probe{}
				p.Probes = map[string]Probes{"s0": {Startup: &failure}}
			},
			want: []string{"stop s0 30s: Init container s failed startup probe", "start s1"},
		},
		"sidecar crashed before the next": {pod: spec(never, "s", "i", "a"), have: []string{"ready", "s:1"}, want: []string{"start s1"}},
		"sidecar crashed in a pod that runs": {
			pod: spec(never, "s", "t", "a"), have: []string{"ready", "a:running", "t:running", "s:1"},
			want: []string{"start s1"},
		},
		"sidecar is forgotten in a pod that runs": {
			pod: spec(always, "s", "t", "a"), have: []string{"ready", "a:running", "t:running"},
			want: []string{"start s0"},
		},
		"sidecar is not alive": {
			pod: spec(always, "s", "a"), have: []string{"ready", "a:running", "s:running"},
			change: func(p *Pod) {
				find(p.Want, "s").LivenessProbe = &corev1.Probe{}
				p.Have.ContainerStatuses[1].Hash = kubecontainer.HashContainer(find(p.Want, "s"))
				p.Probes = map[string]Probes{"s0": {Liveness: &failure}}
			},
			want: []string{"stop s0 30s: Init container s failed liveness probe", "start s1"},
		},
		"sidecar does not keep the pod": {
			pod: spec(never, "s", "a"), have: []string{"ready", "a:0", "s:running"},
			want: []string{"stop pod"},
		},

		"sandbox died": {
			pod: spec(always, "i", "a"), have: []string{"notready", "a:1", "i:0"},
			want: []string{"stop pod", "remove i0", "sandbox 1", "start i1!"},
		},
		"sandbox died, never":      {pod: spec(never, "a"), have: []string{"notready", "a:1"}, want: []string{"stop pod"}},
		"sandbox could not be had": {pod: spec(never, "a"), have: []string{"notready"}, want: []string{"stop pod", "sandbox 1", "start a0"}},
		"sandbox died, one is done": {
			pod: spec(onFailure, "a", "b"), have: []string{"notready", "a:0", "b:1"},
			want: []string{"stop pod", "sandbox 1", "start b1"},
		},
		"sandbox died, all are done": {
			pod: spec(onFailure, "a"), have: []string{"notready", "a:0"}, want: []string{"stop pod"},
		},
		"two sandboxes": {
			pod: spec(always, "a"), have: []string{"ready", "ready", "a:running"},
			want: []string{"stop pod", "sandbox 2", "start a1"},
		},
		"sandbox has no address": {
			pod: spec(always, "a"), have: []string{"ready", "a:running"},
			change: func(p *Pod) { p.Have.SandboxStatuses[0].Network.Ip = "" },
			want:   []string{"stop pod", "sandbox 1", "start a1"},
		},

		"resized": {
			pod: spec(always, "a", "b"), have: []string{"ready", "a:running", "b:running"},
			change: func(p *Pod) {
				resources(p, "a", "100m", "200m")
				resources(p, "b", "200m", "100m")
			},
			want: []string{"resize b0 cpu", "resize a0 cpu", "resize pod"},
		},
		"resized, with a restart": {
			pod: spec(always, "a", "b"), have: []string{"ready", "a:running", "b:running"},
			change: func(p *Pod) {
				find(p.Want, "a").ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.RestartContainer}}
				p.Have.ContainerStatuses[0].Hash = kubecontainer.HashContainer(find(p.Want, "a"))
				resources(p, "a", "100m", "200m")
			},
			want: []string{"stop a0 30s: Container a resize requires restart", "resize pod", "start a1"},
		},
		"all anew": {
			pod: spec(always, "i", "a", "b"), have: []string{"ready", "a:42", "a:1", "b:running", "i:0"},
			change: func(p *Pod) {
				p.RestartAll = true
				find(p.Want, "a").RestartPolicyRules = []corev1.ContainerRestartRule{{
					Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
					ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
				}}
			},
			want: []string{"remove a0", "stop b0 0s: killing", "remove b0", "remove i0", "remove a1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Pod{Want: tt.pod, Have: have(tt.pod, tt.have...), Now: now}
			if tt.change != nil {
				tt.change(&p)
			}
			if diff := cmp.Diff(strings.Join(tt.want, "\n"), describe(Decide(p))); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// resources has the container run with one amount of CPU where another is wanted.
func resources(p *Pod, name, had, want string) {
	of := func(cpu string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}
	}
	find(p.Want, name).Resources = of(want)
	if p.Resources == nil {
		p.Resources = map[string]corev1.ResourceRequirements{}
	}
	p.Resources[name] = of(had)
}

// TestBackoff: the wait doubles up to five minutes, and is forgotten by who ran for ten.
func TestBackoff(t *testing.T) {
	t.Parallel()
	b, at := Backoffs{}, now
	var delays []time.Duration
	for range 7 {
		b.Next("a", at, at)
		delays = append(delays, b["a"].Delay/time.Second)
		at = at.Add(b["a"].Delay)
	}
	b.Next("a", at.Add(11*time.Minute), at.Add(11*time.Minute))
	delays = append(delays, b["a"].Delay/time.Second)
	if diff := cmp.Diff([]time.Duration{10, 20, 40, 80, 160, 300, 300, 10}, delays); diff != "" {
		t.Error(diff)
	}
}

// TestBackoffByAnotherClock: who exited by a clock that was set back, or on, since waits no longer than by a right one.
func TestBackoffByAnotherClock(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{}
	c := Container{Spec: &corev1.Container{Name: "a"}}
	b := Backoffs{"a": {Delay: 40 * time.Second, Since: now}}
	for exited, want := range map[time.Duration]bool{-time.Second: true, -39 * time.Second: true, -41 * time.Second: false, -time.Hour: false, time.Second: false, time.Hour: false} {
		wait, waits := b.wait(pod, c, now.Add(exited), now)
		if waits != want || waits && wait.Until.Sub(now) > 40*time.Second {
			t.Errorf("exited %s from now: waits %t, until %s from now", exited, waits, wait.Until.Sub(now))
		}
	}
}
