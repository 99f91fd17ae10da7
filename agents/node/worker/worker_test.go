package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

func TestRunAndDelete(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		pod := n.pod("a", nil)
		n.workers.Synced()
		after(time.Second)
		got := n.api(pod.UID)
		if got.Status.Phase != corev1.PodRunning || got.Status.PodIP != "10.0.0.1" || !ready(got) || got.Status.StartTime.IsZero() {
			t.Errorf("status of a pod that runs: %+v", got.Status)
		}
		if s := got.Status.ContainerStatuses; len(s) != 1 || s[0].State.Running == nil || !strings.HasPrefix(s[0].ContainerID, "fake://") {
			t.Errorf("containers of a pod that runs: %+v", s)
		}
		writes := len(n.writes())
		after(time.Hour)
		if more := n.writes()[writes:]; len(more) > 0 {
			t.Errorf("nothing changed in an hour, but the API was written to: %v", more)
		}

		n.life = func(string, int) (time.Duration, int32) { return -3 * time.Second, 0 }
		n.delete(pod.UID, 30)
		after(2 * time.Second)
		if n.api(pod.UID) == nil {
			t.Fatal("the pod was deleted while its container ran")
		}
		after(2 * time.Second)
		if n.api(pod.UID) != nil {
			t.Fatal("the pod was not deleted after its containers had stopped")
		}
		last := n.statuses()
		if s := last[len(last)-1]; !strings.Contains(s, `"exitCode":137`) || !strings.Contains(s, `"phase":"Failed"`) {
			t.Errorf("the last status before the delete has no end of the container: %s", s)
		}
		n.workers.Gone(pod.UID)
		after(time.Second)
		if len(n.sandboxes) > 0 || len(n.volumes) > 0 || len(n.cgroups) > 0 {
			t.Errorf("left of a pod that is gone: sandboxes %v, volumes %v, cgroups %v", n.sandboxes, n.volumes, n.cgroups)
		}
		want := []string{"run sandbox a", "create c 0", "start c", "stop c 30", "stop sandbox a", "remove c", "remove sandbox a"}
		if diff := cmp.Diff(want, n.asked()); diff != "" {
			t.Errorf("calls of the runtime (-want +got):\n%s", diff)
		}
		if _, known := n.workers.Phase(pod.UID); known {
			t.Error("a pod that is gone is remembered")
		}
		want = []string{"Normal Created Container created", "Normal Started Container started", "Normal Killing Stopping container c"}
		if diff := cmp.Diff(want, n.recorded()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestCrashLoop(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.machine.life = func(_ string, attempt int) (time.Duration, int32) { return time.Second, 3 }
		pod := n.pod("a", nil)
		after(2 * time.Second) // it is started again at once the first time
		if got := n.count("start c"); got != 2 {
			t.Errorf("%d starts in 2 s, want 2", got)
		}
		after(5 * time.Second)
		s := n.api(pod.UID).Status.ContainerStatuses[0]
		if w := s.State.Waiting; w == nil || w.Reason != "CrashLoopBackOff" || !strings.HasPrefix(w.Message, "back-off 10s restarting failed container=c pod=a_default") {
			t.Errorf("state of a container that crashes: %+v", s.State)
		}
		if s.LastTerminationState.Terminated == nil || s.LastTerminationState.Terminated.ExitCode != 3 || s.RestartCount != 1 {
			t.Errorf("a container that crashes: %+v", s)
		}
		after(10 * time.Second)
		if got := n.count("start c"); got != 3 {
			t.Errorf("%d starts after the first back-off, want 3", got)
		}
		after(time.Hour)
		if got := n.count("start c"); got < 14 || got > 20 {
			t.Errorf("%d starts in an hour, want one every 5 minutes or so", got)
		}
		if !slices.Contains(n.recorded(), "Warning BackOff Back-off restarting failed container c in pod a_default(uid-a)") {
			t.Error("no event of the back-off")
		}
	})
}

func TestSucceeds(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.machine.life = func(string, int) (time.Duration, int32) { return time.Minute, 0 }
		pod := n.pod("a", func(pod *corev1.Pod) { pod.Spec.RestartPolicy = corev1.RestartPolicyNever })
		after(2 * time.Minute)
		got := n.api(pod.UID)
		if got.Status.Phase != corev1.PodSucceeded || ready(got) {
			t.Errorf("status of a pod that is done: %+v", got.Status)
		}
		if phase, _ := n.workers.Phase(pod.UID); phase != Finished {
			t.Errorf("a pod that is done is in phase %d", phase)
		}
		calls := len(n.asked())
		n.workers.Set(got)
		after(time.Hour)
		if more := n.asked()[calls:]; len(more) > 0 {
			t.Errorf("a pod that is done was looked at: %v", more)
		}
		if len(n.sandboxes) != 1 {
			t.Error("logs of a pod that is done can be asked for, but its sandbox is gone")
		}
		n.delete(pod.UID, 30)
		n.workers.Status.Changed(pod.UID)
		after(time.Second)
		if n.api(pod.UID) != nil {
			t.Error("a pod that is done and deleted stays")
		}
	})
}

func TestDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		pod := n.pod("a", func(pod *corev1.Pod) {
			pod.Spec.ActiveDeadlineSeconds = new(int64)
			*pod.Spec.ActiveDeadlineSeconds = 20
		})
		after(19 * time.Second)
		if got := n.api(pod.UID).Status.Phase; got != corev1.PodRunning {
			t.Errorf("phase before the deadline: %s", got)
		}
		after(5 * time.Second)
		got := n.api(pod.UID).Status
		if got.Phase != corev1.PodFailed || got.Reason != "DeadlineExceeded" || got.Message != deadlineMessage {
			t.Errorf("status after the deadline: %+v", got)
		}
		if n.count("start c") != 1 {
			t.Error("it was started again")
		}
	})
}

func TestImageError(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.machine.image = func(*corev1.Container) error {
			return &podstatus.Waiting{Reason: "ErrImagePull", Message: "no such image"}
		}
		pod := n.pod("a", nil)
		after(time.Second)
		got := n.api(pod.UID).Status
		if w := got.ContainerStatuses[0].State.Waiting; got.Phase != corev1.PodPending || w == nil || w.Reason != "ErrImagePull" || w.Message != "no such image" {
			t.Errorf("status without an image: %+v", got)
		}
		if !slices.Contains(n.recorded(), "Warning Failed Error: ErrImagePull") {
			t.Error("no event of a container that lacks its image")
		}
		n.mu.Lock()
		n.machine.image = func(*corev1.Container) error {
			return &podstatus.Waiting{Reason: "CreateContainerConfigError", Message: "the image's user is not known"}
		}
		n.mu.Unlock()
		after(20 * time.Second)
		if !slices.Contains(n.recorded(), "Warning Failed Error: the image's user is not known") {
			t.Error("no event of an image of which something is not known")
		}
		n.mu.Lock()
		n.machine.image = func(*corev1.Container) error { return nil }
		n.mu.Unlock()
		after(20 * time.Second)
		if got := n.api(pod.UID).Status.Phase; got != corev1.PodRunning {
			t.Errorf("phase when the image was there: %s", got)
		}
		if got := n.count("run sandbox a"); got != 1 {
			t.Errorf("%d sandboxes were made", got)
		}
	})
}

func TestSandboxFails(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.machine.fail = func(call string) error {
			if call == "run sandbox a" && len(n.calls) == 1 {
				return errors.New("no network")
			}
			return nil
		}
		pod := n.pod("a", nil)
		after(time.Second)
		if got := n.recorded(); len(got) != 1 || got[0] != "Warning FailedCreatePodSandBox Failed to create pod sandbox: no network" {
			t.Errorf("events: %q", got)
		}
		after(20 * time.Second)
		if got := n.api(pod.UID).Status.Phase; got != corev1.PodRunning {
			t.Errorf("phase after the second attempt: %s", got)
		}
	})
}

// TestTakeOver: an agent that begins anew disturbs nothing that runs, and removes what nobody wants.
func TestTakeOver(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		pod := n.pod("a", func(pod *corev1.Pod) {
			pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}}
		})
		other := n.pod("b", nil)
		n.machine.probes = map[string]podstatus.Probes{"id-2": {Readiness: new(bool)}, "id-3": {Readiness: new(bool)}, "id-4": {}}
		after(time.Second)
		yes := true
		for id := range n.machine.probes {
			n.machine.probes[id] = podstatus.Probes{Readiness: &yes}
		}
		n.workers.Changed(pod.UID)
		after(time.Second)
		if !ready(n.api(pod.UID)) {
			t.Fatal("the pod is not ready")
		}
		n.stop()
		n.machine.probes = nil
		calls := len(n.asked())
		after(time.Minute)
		n.start()
		n.workers.Set(n.api(pod.UID))
		after(time.Second)
		if more := n.asked()[calls:]; len(more) > 0 {
			t.Errorf("calls of the runtime by the next agent: %v", more)
		}
		if !ready(n.api(pod.UID)) {
			t.Error("the pod is not ready until its probe has run")
		}
		if len(n.sandboxes) != 2 {
			t.Error("a pod was removed before it was known that nobody wants it")
		}
		n.workers.Synced()
		after(20 * time.Second)
		if want := []string{"stop c 2", "stop sandbox b", "remove c", "remove sandbox b"}; !slices.Equal(n.asked()[calls:], want) {
			t.Errorf("calls for a pod that nobody wants: %v, want %v", n.asked()[calls:], want)
		}
		if _, known := n.workers.Phase(other.UID); known {
			t.Error("a pod that nobody wanted is remembered")
		}
	})
}

// TestShorterGrace: a second delete with less time hurries what the first one began.
func TestShorterGrace(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.machine.preStop = func(ctx context.Context) time.Duration { <-ctx.Done(); return 0 }
		n.machine.life = func(string, int) (time.Duration, int32) { return -time.Hour, 0 }
		pod := n.pod("a", func(pod *corev1.Pod) {
			pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
		})
		after(time.Second)
		n.delete(pod.UID, 600)
		after(time.Minute)
		n.delete(pod.UID, 900) // more is not given
		after(time.Minute)
		n.delete(pod.UID, 5)
		after(6 * time.Second)
		if n.api(pod.UID) != nil {
			t.Error("the pod is still there")
		}
		want := []string{"run sandbox a", "create c 0", "start c", "preStop c", "stop c 5", "stop sandbox a"}
		if diff := cmp.Diff(want, n.asked()); diff != "" {
			t.Errorf("calls of the runtime (-want +got):\n%s", diff)
		}
	})
}

// TestAPIAway: pods run on, and are restarted; what became of them is told when the API is back.
func TestAPIAway(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.machine.life = func(_ string, attempt int) (time.Duration, int32) {
			if attempt == 0 {
				return 10 * time.Minute, 1
			}
			return -1, 0
		}
		pod := n.pod("a", nil)
		after(time.Second)
		away := true
		n.client.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away, nil, errors.New("connection refused")
		})
		after(time.Hour)
		if got := n.count("start c"); got != 2 {
			t.Errorf("%d starts, want 2", got)
		}
		if got := n.api(pod.UID).Status.ContainerStatuses[0].RestartCount; got != 0 {
			t.Fatalf("the API knows of %d restarts while it is away", got)
		}
		away = false
		after(15 * time.Second)
		got := n.api(pod.UID).Status.ContainerStatuses[0]
		if got.RestartCount != 1 || got.State.Running == nil || got.LastTerminationState.Terminated.ExitCode != 1 {
			t.Errorf("what the API has when it is back: %+v", got)
		}
	})
}

// TestOthersConditions stay, and a finalizer keeps a pod whose end is told once.
func TestOthersConditions(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		pod := n.pod("a", func(pod *corev1.Pod) {
			pod.Finalizers = []string{"example.com/wait"}
			pod.Status.Conditions = []corev1.PodCondition{{Type: "example.com/gate", Status: corev1.ConditionTrue}}
		})
		deletes := 0
		n.client.PrependReactor("delete", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			deletes++
			return true, nil, nil // there is a finalizer
		})
		after(time.Second)
		n.delete(pod.UID, 30)
		after(time.Minute)
		for range 3 {
			n.workers.Status.Changed(pod.UID)
			n.workers.Set(n.api(pod.UID))
			after(time.Minute)
		}
		if deletes != 1 {
			t.Errorf("%d deletes, want 1", deletes)
		}
		for _, c := range n.api(pod.UID).Status.Conditions {
			if c.Type == "example.com/gate" {
				return
			}
		}
		t.Error("a condition of others is gone")
	})
}

// TestStaticTurns: a static pod waits for the end of the one whose name it has.
func TestStaticTurns(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		static := func(uid string) *corev1.Pod {
			return &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: "default", Name: "s", UID: types.UID(uid),
					Annotations: map[string]string{kubetypes.ConfigSourceAnnotationKey: kubetypes.FileSource},
				},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c" + uid}}, RestartPolicy: corev1.RestartPolicyAlways},
			}
		}
		first, second := static("1"), static("2")
		n.machine.life = func(string, int) (time.Duration, int32) { return -2 * time.Second, 0 }
		n.workers.Set(first)
		after(time.Second)
		n.workers.Gone(first.UID)
		n.workers.Set(second)
		after(10 * time.Second)
		calls := n.asked()
		stopped, started := slices.Index(calls, "stop sandbox s"), slices.Index(calls, "start c2")
		if stopped < 0 || started < stopped {
			t.Errorf("the second one did not wait: %v", calls)
		}
	})
}

// TestSameUID: a static pod that comes back with its old UID runs when the old one is gone.
func TestSameUID(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		pod := n.pod("a", func(pod *corev1.Pod) {
			pod.Annotations = map[string]string{kubetypes.ConfigSourceAnnotationKey: kubetypes.FileSource}
		})
		after(time.Second)
		n.workers.Gone(pod.UID)
		n.workers.Set(pod)
		after(time.Minute)
		want := []string{"run sandbox a", "create c 0", "start c", "stop c 30", "stop sandbox a", "remove c", "remove sandbox a", "run sandbox a", "create c 0", "start c"}
		if diff := cmp.Diff(want, n.asked()); diff != "" {
			t.Errorf("calls of the runtime (-want +got):\n%s", diff)
		}
	})
}

// TestResize: a container that runs is given other resources, and the API hears of it.
func TestResize(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		limit := func(pod *corev1.Pod, cpu string) {
			pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse(cpu)}
		}
		pod := n.pod("a", func(pod *corev1.Pod) { limit(pod, "1") })
		after(time.Second)
		resized := n.api(pod.UID).DeepCopy()
		limit(resized, "2")
		n.machine.fail = func(call string) error {
			if strings.HasPrefix(call, "resize") && n.count2("resize c 200000") == 1 {
				return errors.New("busy")
			}
			return nil
		}
		n.workers.Set(resized)
		after(time.Second)
		_, c := podutil.GetPodConditionFromList(n.api(pod.UID).Status.Conditions, corev1.PodResizeInProgress)
		if c == nil || c.Reason != corev1.PodReasonError || !strings.HasSuffix(c.Message, "busy") {
			t.Errorf("condition after a failure: %+v", c)
		}
		after(time.Minute)
		if _, c := podutil.GetPodConditionFromList(n.api(pod.UID).Status.Conditions, corev1.PodResizeInProgress); c != nil {
			t.Errorf("condition after it: %+v", c)
		}
		want := []string{"run sandbox a", "create c 0", "start c", "resize c 200000", "resize c 200000"}
		if diff := cmp.Diff(want, n.asked()); diff != "" {
			t.Errorf("calls of the runtime (-want +got):\n%s", diff)
		}
	})
}

func ready(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (n *node) count(call string) (count int) {
	for _, c := range n.asked() {
		if c == call {
			count++
		}
	}
	return count
}

// count2 is count for those who are called by the runtime.
func (n *node) count2(call string) (count int) {
	for _, c := range n.calls {
		if c == call {
			count++
		}
	}
	return count
}

// writes are what the API was asked to change, but for creates.
func (n *node) writes() []clienttesting.Action {
	return slices.DeleteFunc(n.client.Actions(), func(a clienttesting.Action) bool { return a.GetVerb() != "patch" && a.GetVerb() != "delete" })
}

// statuses are the patches that were sent.
func (n *node) statuses() (patches []string) {
	for _, a := range n.client.Actions() {
		if p, ok := a.(clienttesting.PatchAction); ok {
			patches = append(patches, string(p.GetPatch()))
		}
	}
	return patches
}

// recorded are the events since the last time.
func (n *node) recorded() (events []string) {
	for {
		select {
		case e := <-n.events.Events:
			events = append(events, e)
		default:
			return events
		}
	}
}
