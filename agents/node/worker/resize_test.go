package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

func amounts(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for _, pair := range pairs {
		name, amount, _ := strings.Cut(pair, "=")
		list[corev1.ResourceName(name)] = resource.MustParse(amount)
	}
	return list
}

func (n *node) condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	_, c := podutil.GetPodConditionFromList(n.api(pod.UID).Status.Conditions, kind)
	return c
}

// TestResizeOutlivesAgent: a pod is given what an agent allotted that ended before it had given it.
func TestResizeOutlivesAgent(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		pod := n.pod("a", func(pod *corev1.Pod) { pod.Spec.Containers[0].Resources.Limits = amounts("cpu=1", "memory=64Mi") })
		after(time.Second)
		n.stop()
		resized := n.api(pod.UID).DeepCopy()
		resized.Spec.Containers[0].Resources.Limits = amounts("cpu=2", "memory=64Mi")
		n.start()
		n.workers.Set(resized)
		after(time.Minute)
		want := []string{"run sandbox a", "create c 0", "start c", "resize c 200000"}
		if diff := cmp.Diff(want, n.asked()); diff != "" {
			t.Errorf("calls of the runtime (-want +got):\n%s", diff)
		}
		n.stop()
		n.start()
		n.workers.Set(resized)
		after(time.Minute)
		if diff := cmp.Diff(want, n.asked()); diff != "" {
			t.Errorf("calls of the runtime after another start (-want +got):\n%s", diff)
		}
	})
}

// TestResizeIsReported: also what the runtime does not report.
func TestResizeIsReported(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		pod := n.pod("a", func(pod *corev1.Pod) { pod.Spec.Containers[0].Resources.Requests = amounts("cpu=100m", "memory=64Mi") })
		after(time.Second)
		resized := n.api(pod.UID).DeepCopy()
		resized.Spec.Containers[0].Resources.Requests = amounts("cpu=100m", "memory=32Mi")
		resized.Generation++
		n.workers.Set(resized)
		after(time.Minute)
		got := n.api(pod.UID).Status.ContainerStatuses[0].Resources.Requests
		if diff := cmp.Diff(amounts("cpu=100m", "memory=32Mi"), got); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if c := n.condition(pod, corev1.PodResizeInProgress); c != nil {
			t.Errorf("condition: %+v", c)
		}
	})
}

// TestResizeBelowUse: memory that is in use is not taken away.
func TestResizeBelowUse(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		pod := n.pod("a", func(pod *corev1.Pod) { pod.Spec.Containers[0].Resources.Limits = amounts("cpu=1", "memory=64Mi") })
		after(time.Second)
		resized := n.api(pod.UID).DeepCopy()
		resized.Spec.Containers[0].Resources.Limits = amounts("cpu=1", "memory=32Mi")
		n.used = 33 << 20
		n.workers.Set(resized)
		after(time.Second)
		c := n.condition(pod, corev1.PodResizeInProgress)
		const want = "cannot decrease memory limits: [attempting to set pod memory limit (33554432) below current usage (34603008), " +
			`attempting to set container "c" memory limit (33554432) below current usage (34603008)]`
		if c == nil || c.Reason != corev1.PodReasonError || c.Message != want {
			t.Errorf("condition while it is used: %+v", c)
		}
		if n.count("resize c 100000") > 0 {
			t.Error("it was taken away")
		}
		n.mu.Lock()
		n.used = 31 << 20
		n.mu.Unlock()
		after(time.Minute)
		if n.count("resize c 100000") != 1 || n.condition(pod, corev1.PodResizeInProgress) != nil {
			t.Errorf("calls when it is not used any more: %v", n.asked())
		}
	})
}

// TestResizeByRestart: a container that is restarted for more of one resource, with less of another that needs no restart, finds room in
// the pod's cgroup; also when it could not be resized at first.
func TestResizeByRestart(t *testing.T) {
	for name, fails := range map[string]bool{"at once": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *node) {
				pod := n.pod("a", func(pod *corev1.Pod) {
					c := &pod.Spec.Containers[0]
					c.Resources.Limits = amounts("cpu=1", "memory=64Mi")
					c.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.RestartContainer}}
				})
				after(time.Second)
				n.mu.Lock()
				n.used = 1 << 20
				if fails {
					n.used = 40 << 20 // more than the pod is to have
				}
				var quotas []int64
				n.machine.fail = func(call string) error {
					if call == "start c" {
						quotas = append(quotas, *n.cgroups[pod.UID].CPUQuota)
					}
					return nil
				}
				n.mu.Unlock()
				resized := n.api(pod.UID).DeepCopy()
				resized.Spec.Containers[0].Resources.Limits = amounts("cpu=2", "memory=32Mi")
				n.workers.Set(resized)
				after(time.Second)
				n.mu.Lock()
				n.used = 1 << 20
				for i := range n.containers { // it has not got far
					n.containers[i].State, n.containers[i].ExitCode, n.containers[i].FinishedAt = runtimeapi.ContainerState_CONTAINER_EXITED, 1, time.Now().UnixNano()
				}
				n.mu.Unlock()
				after(5 * time.Minute)
				if len(quotas) == 0 || quotas[len(quotas)-1] != 200000 {
					t.Errorf("the pod had %v when containers started; calls: %v", quotas, n.asked())
				}
				if !fails && quotas[0] != 200000 {
					t.Errorf("the pod had %v when containers started", quotas)
				}
			})
		})
	}
}

// TestPodLevelResize: a pod's own resources change while it runs, and those of containers that have none of theirs.
func TestPodLevelResize(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		pod := n.pod("a", func(pod *corev1.Pod) {
			pod.Spec.Resources = &corev1.ResourceRequirements{Requests: amounts("cpu=1", "memory=64Mi"), Limits: amounts("cpu=1", "memory=64Mi")}
			pod.Spec.Containers[0].Resources.Limits = amounts("cpu=500m", "memory=32Mi")
			pod.Spec.Containers[0].Resources.Requests = amounts("cpu=500m", "memory=32Mi")
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "d", Image: "image"})
		})
		after(time.Second)
		if got := n.api(pod.UID).Status.Resources; got == nil || !got.Limits.Cpu().Equal(resource.MustParse("1")) {
			t.Errorf("resources of a pod that runs: %+v", got)
		}
		resized := n.api(pod.UID).DeepCopy()
		resized.Spec.Resources = &corev1.ResourceRequirements{Requests: amounts("cpu=2", "memory=64Mi"), Limits: amounts("cpu=2", "memory=64Mi")}
		n.workers.Set(resized)
		after(time.Minute)
		want := []string{"run sandbox a", "create c 0", "start c", "create d 0", "start d", "resize d 200000"}
		if diff := cmp.Diff(want, n.asked()); diff != "" {
			t.Errorf("calls of the runtime (-want +got):\n%s", diff)
		}
		if q := n.cgroups[pod.UID].CPUQuota; q == nil || *q != 200000 {
			t.Errorf("the pod's cgroup was given %v", q)
		}
		got := n.api(pod.UID).Status
		if got.Resources == nil || !got.Resources.Limits.Cpu().Equal(resource.MustParse("2")) || !got.AllocatedResources.Cpu().Equal(resource.MustParse("2")) {
			t.Errorf("resources of a pod that was resized: %+v, %v", got.Resources, got.AllocatedResources)
		}
		if c := n.condition(pod, corev1.PodResizeInProgress); c != nil {
			t.Errorf("condition: %+v", c)
		}
	})
}
