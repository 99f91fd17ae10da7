package plan

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/kuberuntime"
	"k8s.io/kubernetes/pkg/kubelet/prober/results"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/kubelettest"
)

// TestAgainstKubelet: for random pods in random states the runtime is asked for the same as by the kubelet's own manager of pods.
func TestAgainstKubelet(t *testing.T) {
	synctest.Test(t, againstKubelet) // it waits for containers' turns to stop
}

func againstKubelet(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	k := kubelettest.New(t)
	for n := range 1000 {
		p := random(r, n)
		for id, probes := range p.Probes {
			k.Probed(p.Want, kubecontainer.BuildContainerID("fake", id), probes.Liveness, probes.Startup)
		}
		backoff := flowcontrol.NewBackOff(FirstBackoff, LastBackoff)
		for name := range p.Backoffs {
			key := kuberuntime.GetBackoffKey(p.Want, find(p.Want, name))
			for range 4 {
				backoff.Next(key, time.Now())
			}
		}
		asked := k.Sync(context.Background(), p.Want.DeepCopy(), p.Have, backoff, p.RestartAll)
		got := calls(&p, Decide(p))
		if diff := cmp.Diff(kubelettest.Sorted(asked.Calls), kubelettest.Sorted(got)); diff != "" {
			var state []string
			for _, s := range p.Have.ContainerStatuses {
				state = append(state, fmt.Sprintf("%s:%s(%d)", s.ID.ID, s.State, s.ExitCode))
			}
			for _, s := range p.Have.SandboxStatuses {
				state = append(state, s.Id+":"+s.State.String())
			}
			var want []string
			for _, list := range [][]corev1.Container{p.Want.Spec.InitContainers, p.Want.Spec.Containers} {
				for _, c := range list {
					want = append(want, fmt.Sprintf("%s %s %v", c.Name, ptr.Deref(c.RestartPolicy, "-"), c.RestartPolicyRules))
				}
			}
			t.Fatalf("pod %d (%s, deleted %v, all %v, backoffs %v, probes %v)\n%s\nis\n%s\nkubelet -, agent +:\n%s", n, p.Want.Spec.RestartPolicy,
				p.Want.DeletionTimestamp != nil, p.RestartAll, p.Backoffs, p.Probes, strings.Join(want, "\n"), strings.Join(state, "\n"), diff)
		}
	}
}

// random is a pod in some state, with clocks of now.
func random(r *rand.Rand, n int) Pod {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	policy := []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}[r.IntN(3)]
	var names []string
	for range r.IntN(4) {
		names = append(names, pick("i", "j", "s", "t")+fmt.Sprint(len(names)))
	}
	for range 1 + r.IntN(2) {
		names = append(names, pick("a", "b")+fmt.Sprint(len(names)))
	}
	pod := spec(policy, names...)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{}
	pod.UID = types.UID(fmt.Sprint(n))
	each := func(c *corev1.Container, init bool) {
		c.ImagePullPolicy = corev1.PullIfNotPresent
		c.Image = kubelettest.Image
		if r.IntN(4) == 0 {
			c.StartupProbe = &corev1.Probe{}
		}
		if r.IntN(4) == 0 {
			c.LivenessProbe = &corev1.Probe{TerminationGracePeriodSeconds: ptr.To(int64(1 + r.IntN(9)))}
		}
		if c.RestartPolicy == nil && r.IntN(4) == 0 {
			c.RestartPolicy = ptr.To([]corev1.ContainerRestartPolicy{
				corev1.ContainerRestartPolicyOnFailure, corev1.ContainerRestartPolicyNever,
			}[r.IntN(2)])
			if !init && r.IntN(4) == 0 {
				c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
			}
			if r.IntN(2) == 0 {
				c.RestartPolicyRules = []corev1.ContainerRestartRule{{
					Action: []corev1.ContainerRestartRuleAction{
						corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers,
					}[r.IntN(2)],
					ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: []corev1.ContainerRestartRuleOnExitCodesOperator{
						corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn,
					}[r.IntN(2)], Values: []int32{2}},
				}}
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		each(&pod.Spec.InitContainers[i], true)
	}
	for i := range pod.Spec.Containers {
		each(&pod.Spec.Containers[i], false)
	}
	var reports []string
	if r.IntN(8) > 0 {
		reports = append(reports, "ready")
	}
	if r.IntN(8) == 0 {
		reports = append(reports, pick("notready", "ready"))
	}
	for i, name := range names {
		if r.IntN(1+len(names)-i) > 1 {
			continue
		}
		reports = append(reports, name+":"+pick("running", "running", "running", "created", "unknown", "0", "1", "2"))
		if r.IntN(3) == 0 {
			reports = append(reports, name+":"+pick("0", "1", "2"))
		}
	}
	p := Pod{Want: pod, Have: have(pod, reports...), Now: time.Now(), Probes: map[string]Probes{}, Backoffs: Backoffs{}, RestartAll: r.IntN(20) == 0}
	for _, s := range p.Have.ContainerStatuses {
		s.FinishedAt = p.Now.Add(-time.Minute)
		if r.IntN(10) == 0 {
			s.Hash++
		}
		var probes Probes
		if r.IntN(3) == 0 {
			probes.Liveness = ptr.To([]results.Result{results.Success, results.Failure}[r.IntN(2)])
		}
		if r.IntN(3) == 0 {
			probes.Startup = ptr.To([]results.Result{results.Success, results.Failure}[r.IntN(2)])
		}
		p.Probes[s.ID.ID] = probes
		if r.IntN(5) == 0 {
			p.Backoffs[s.Name] = Backoff{80 * time.Second, p.Now}
		}
	}
	return p
}

// calls are the runtime's that the actions come to.
func calls(p *Pod, actions []Action) []string {
	var out []string
	for _, a := range actions {
		switch a := a.(type) {
		case StopPod:
			for _, s := range p.Have.ContainerStatuses {
				if s.State == kubecontainer.ContainerStateRunning {
					out = append(out, fmt.Sprintf("stop %s %d", s.ID.ID, Rest(Grace(p.Want, find(p.Want, s.Name), Unknown), 0)/time.Second))
				}
			}
			for _, s := range p.Have.SandboxStatuses {
				out = append(out, "stop sandbox "+s.Id)
			}
		case StopContainer:
			out = append(out, fmt.Sprintf("stop %s %d", a.ID.ID, Rest(a.Grace, 0)/time.Second))
		case RemoveContainer:
			out = append(out, "remove "+a.ID.ID)
		case CreateSandbox:
			out = append(out, fmt.Sprintf("sandbox %d", a.Attempt))
		case StartContainer:
			out = append(out, fmt.Sprintf("start %s %d", a.Spec.Name, a.Restarts))
		}
	}
	return out
}
