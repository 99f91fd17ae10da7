package nodes

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// long skips tests that wait for minutes.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("ROWLOCK_NODES_LONG") == "" {
		t.Skip("it takes minutes: set ROWLOCK_NODES_LONG")
	}
}

func (c *cluster) nodeReady(t *testing.T, name string, want corev1.ConditionStatus, message string) {
	t.Helper()
	last := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(last)
		}
	})
	c.eventually(t, fmt.Sprintf("node %s is ready: %s %s", name, want, message), func(ctx context.Context) (bool, error) {
		node, err := c.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, nil //nolint:nilerr // the server may be away
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				last = condition.String()
				return condition.Status == want && strings.Contains(condition.Message, message), nil
			}
		}
		return false, nil
	})
}

// TestRuntimeHangs: a runtime that does not answer makes the node not ready after half a minute, pods run on, and when it answers again all
// is as before.
func TestRuntimeHangs(t *testing.T) {
	long(t)
	c := newServer(t)
	n := c.join(t, "one")
	c.kubectl(t, fmt.Sprintf(web, 2), "apply", "-f", "-")
	before := c.ready(t, "web", 2)
	n.SignalRuntime(t, syscall.SIGSTOP)
	for _, p := range before {
		resp, err := n.get(t.Context(), "http://"+p.Status.PodIP+":8080/")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	c.nodeReady(t, "one", corev1.ConditionFalse, "container runtime is down")
	n.SignalRuntime(t, syscall.SIGCONT)
	c.nodeReady(t, "one", corev1.ConditionTrue, "")
	if diff := cmp.Diff(lives(before), lives(c.ready(t, "web", 2))); diff != "" {
		t.Errorf("before -, after +:\n%s", diff)
	}
	c.kubectl(t, pod("later", "containers: [CONTAINER]"), "apply", "-f", "-")
	c.running(t, "later")
}

// TestServerAway: the server hangs, and then is gone, while containers end and start again. The agent goes on; afterwards statuses are
// exact, and no pod was evicted.
func TestServerAway(t *testing.T) {
	long(t)
	c := newServer(t)
	n := c.join(t, "one")
	c.kubectl(t, fmt.Sprintf(web, 2), "apply", "-f", "-")
	before := c.ready(t, "web", 2)
	c.kubectl(t, pod("ends", "restartPolicy: Never\n  containers: [{name: c, image: IMAGE, command: [sh, -c, 'sleep 20; exit 7']}]")+"---\n"+
		pod("loops", "containers: [{name: c, image: IMAGE, command: [sh, -c, 'sleep 5; exit 3']}]"), "apply", "-f", "-")
	c.running(t, "ends")
	c.running(t, "loops")
	c.server.Signal(t, syscall.SIGSTOP)
	time.Sleep(75 * time.Second) // what its controllers call unreachable
	c.server.Signal(t, syscall.SIGCONT)
	p := c.until(t, "ends", "its end is told", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if s := p.Status.ContainerStatuses[0].State.Terminated; s == nil || s.ExitCode != 7 {
		t.Errorf("it ended with %+v", p.Status.ContainerStatuses[0].State)
	}
	c.exact(t, n, "loops")
	if diff := cmp.Diff(lives(before), lives(c.ready(t, "web", 2))); diff != "" {
		t.Errorf("after it hung: before -, after +:\n%s", diff)
	}

	c.server.Kill(t)
	time.Sleep(30 * time.Second)
	c.server.Start(t)
	c.nodeReady(t, "one", corev1.ConditionTrue, "")
	c.exact(t, n, "loops")
	if diff := cmp.Diff(lives(before), lives(c.ready(t, "web", 2))); diff != "" {
		t.Errorf("after it was gone: before -, after +:\n%s", diff)
	}
	lease, err := c.CoordinationV1().Leases("kube-node-lease").Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil || time.Since(lease.Spec.RenewTime.Time) > 40*time.Second {
		t.Errorf("the Lease was not renewed: %+v, %v", lease.Spec, err)
	}
}

// exact waits until what the API says of a pod's container is what the runtime says.
func (c *cluster) exact(t *testing.T, n *node, name string) {
	t.Helper()
	service, _ := n.CRI(t)
	c.until(t, name, "its status is the runtime's", func(p *corev1.Pod) bool {
		containers, err := service.ListContainers(t.Context(), nil)
		if err != nil {
			return false
		}
		attempt, id := uint32(0), ""
		for _, one := range containers {
			if one.Labels["io.kubernetes.pod.uid"] == string(p.UID) && one.GetMetadata().GetAttempt() >= attempt {
				attempt, id = one.GetMetadata().GetAttempt(), one.Id
			}
		}
		s := p.Status.ContainerStatuses[0]
		return id != "" && s.RestartCount == int32(attempt) && strings.HasSuffix(s.ContainerID, id)
	})
}

// TestStartsAlone: an agent that starts while the server is away leaves pods alone, and runs those of files.
func TestStartsAlone(t *testing.T) {
	c := newServer(t)
	n := c.join(t, "one")
	c.kubectl(t, fmt.Sprintf(web, 2), "apply", "-f", "-")
	before := c.ready(t, "web", 2)
	n.kill(t)
	c.server.Kill(t)
	n.Run(t, "sh", "-c", "mkdir -p /etc/kubernetes/manifests; echo not a pod >/etc/kubernetes/manifests/garbage.yaml; cat >/etc/kubernetes/manifests/static.yaml <<'X'\n"+
		pod("static", "containers: [CONTAINER]")+"\nX")
	n.join = []string{"agent", "--pod-manifest-path=/etc/kubernetes/manifests"}
	n.start(t)
	service, _ := n.CRI(t)
	c.eventually(t, "the static pod runs", func(ctx context.Context) (bool, error) {
		containers, err := service.ListContainers(ctx, nil)
		for _, one := range containers {
			if one.Labels["io.kubernetes.pod.name"] == "static-one" && one.State == 1 {
				return true, nil
			}
		}
		return false, err
	})
	for _, p := range before {
		resp, err := n.get(t.Context(), "http://"+p.Status.PodIP+":8080/")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	c.server.Start(t)
	c.running(t, "static-one")
	if diff := cmp.Diff(lives(before), lives(c.ready(t, "web", 2))); diff != "" {
		t.Errorf("before -, after +:\n%s", diff)
	}
	n.Run(t, "rm", "/etc/kubernetes/manifests/static.yaml")
	c.eventually(t, "the static pod is gone", func(ctx context.Context) (bool, error) {
		list, err := c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=static-one"})
		return err == nil && len(list.Items) == 0, err
	})
}

// TestReboot: a machine is started anew; its pods are the same ones, and their containers have run once more.
func TestReboot(t *testing.T) {
	long(t)
	c := newServer(t)
	n := c.join(t, "one")
	c.kubectl(t, fmt.Sprintf(web, 2)+"---\n"+pod("once", "restartPolicy: Never\n  containers: [CONTAINER]")+"---\n"+
		pod("memory", "containers: [{name: c, image: IMAGE, command: [sleep, '3600'], volumeMounts: [{name: v, mountPath: /v}]}]\n  volumes: [{name: v, emptyDir: {medium: Memory}}]"), "apply", "-f", "-")
	before := c.ready(t, "web", 2)
	c.running(t, "once")
	c.running(t, "memory")
	n.Reboot(t)
	n.StartRuntime(t)
	n.join = []string{"agent"}
	n.start(t)
	c.until(t, "once", "it has failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	c.until(t, "memory", "it runs again", func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses
		return len(s) == 1 && s[0].RestartCount == 1 && s[0].State.Running != nil
	})
	for _, old := range before {
		c.until(t, old.Name, "it runs again", func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses
			return p.UID == old.UID && len(s) == 1 && s[0].RestartCount == 1 && s[0].State.Running != nil
		})
	}
	for _, p := range c.ready(t, "web", 2) {
		resp, err := n.get(t.Context(), "http://"+p.Status.PodIP+":8080/")
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		_ = resp.Body.Close()
	}
	c.kubectl(t, "", "delete", "deployment", "web", "--timeout=60s")
	c.kubectl(t, "", "delete", "pods", "--all", "--timeout=60s")
	c.spotless(t, n)
}

// TestFullDisk: where pods and logs lie there is no room. What runs goes on, what begins waits and says why, and when there is room it runs.
func TestFullDisk(t *testing.T) {
	long(t)
	c := newServer(t)
	n := c.prepare(t, "one")
	n.Run(t, "sh", "-c", "for d in /var/lib/rowlock/agent /var/log/pods; do mkdir -p $d; mount -t tmpfs -o size=16m small $d; done")
	n.start(t)
	c.nodes = append(c.nodes, n)
	c.joined(t)
	c.kubectl(t, fmt.Sprintf(web, 1)+"---\n"+pod("crashes", "containers: [{name: c, image: IMAGE, command: [sh, -c, 'sleep 5; exit 1']}]"), "apply", "-f", "-")
	before := c.ready(t, "web", 1)
	c.running(t, "crashes")
	n.Run(t, "sh", "-c", "for d in /var/lib/rowlock/agent /var/log/pods; do dd if=/dev/zero of=$d/fill bs=64k 2>/dev/null || dd if=/dev/zero of=$d/rest bs=1 2>/dev/null || true; done")
	c.kubectl(t, pod("new", "containers: [{name: c, image: IMAGE, command: [sleep, '3600'], volumeMounts: [{name: v, mountPath: /v}]}]\n  volumes: [{name: v, configMap: {name: kube-root-ca.crt}}]"), "apply", "-f", "-")
	c.eventually(t, "it is said that there is no room", func(ctx context.Context) (bool, error) {
		list, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=new"})
		for _, e := range list.Items {
			if e.Type == corev1.EventTypeWarning && strings.Contains(e.Message, "no space left on device") {
				return true, nil
			}
		}
		return false, err
	})
	c.until(t, "crashes", "its end is told", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].LastTerminationState.Terminated != nil })
	c.nodeReady(t, "one", corev1.ConditionTrue, "")
	n.kill(t) // an agent begins with a full disk, too
	n.join = []string{"agent"}
	n.start(t)
	c.kubectl(t, pod("newer", "hostNetwork: true\n  containers: [CONTAINER]"), "apply", "-f", "-")
	c.until(t, "newer", "the agent has seen it", func(p *corev1.Pod) bool { return p.Status.HostIP != "" })
	n.Run(t, "sh", "-c", "rm -f /var/lib/rowlock/agent/fill /var/lib/rowlock/agent/rest /var/log/pods/fill /var/log/pods/rest")
	c.running(t, "new")
	c.running(t, "newer")
	if diff := cmp.Diff(lives(before), lives(c.ready(t, "web", 1))); diff != "" {
		t.Errorf("before -, after +:\n%s", diff)
	}
}

// TestNoRuntime: an agent without a runtime waits for one, and says so.
func TestNoRuntime(t *testing.T) {
	noderuntime.Require(t)
	c := newServer(t)
	n := c.prepare(t, "one")
	n.StopRuntime(t, syscall.SIGKILL)
	n.Run(t, "rm", "-f", n.Socket())
	n.join = append(n.join, "--container-runtime-endpoint=unix://"+n.Socket())
	n.start(t)
	c.nodes = append(c.nodes, n)
	c.eventually(t, "the agent says what it waits for", func(context.Context) (bool, error) {
		return strings.Contains(n.agent.Tail(100), "Waited for the container runtime"), nil
	})
	n.StartRuntime(t)
	harness.AwaitNodes(t, c, 1)
}
