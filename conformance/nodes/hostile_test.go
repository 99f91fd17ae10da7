package nodes

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// mostMemory is what an agent may have had of it, in KiB, whatever pods did. At rest it has about 60 MiB of its own, and up to 100 are the
// program, as far as it was read.
const mostMemory = 300 << 10

// memory is the most that the agent's process had, in KiB.
func (n *node) memory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.agent.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			most, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return most
		}
	}
	t.Fatal("the kernel does not say")
	return 0
}

// TestHostile: what a pod does reaches no further than the pod.
func TestHostile(t *testing.T) {
	long(t)
	c := newServer(t)
	n := c.join(t, "one", "--pod-max-pids=100", "--container-log-max-size=1Mi", "--container-log-max-files=3")
	c.kubectl(t, pod("good", "containers: [CONTAINER]"), "apply", "-f", "-")
	good := c.running(t, "good").Status.ContainerStatuses[0].ContainerID
	for name, f := range map[string]func(*testing.T){
		"forks":    func(t *testing.T) { c.forks(t) },
		"messages": func(t *testing.T) { c.messages(t) },
		"logs":     func(t *testing.T) { c.loud(t, n) },
		"links":    func(t *testing.T) { c.links(t, n) },
		"stubborn": func(t *testing.T) { c.stubborn(t) },
		"many":     func(t *testing.T) { c.many(t) },
		"pulling":  func(t *testing.T) { c.pulling(t) },
		"again":    func(t *testing.T) { c.again(t) },
	} {
		t.Run(name, f)
	}
	if now := c.running(t, "good").Status.ContainerStatuses[0]; now.ContainerID != good || now.RestartCount > 0 {
		t.Errorf("the good pod did not run on: %+v", now)
	}
	if most := n.memory(t); most > mostMemory {
		t.Errorf("the agent had %d KiB of memory", most)
	}
	c.kubectl(t, "", "delete", "pods", "--all", "--timeout=60s")
	c.spotless(t, n)
}

// forks: a bomb goes off in a pod, which is then removed.
func (c *cluster) forks(t *testing.T) {
	c.kubectl(t, pod("bomb", `containers: [{name: c, image: IMAGE, command: [sh, -c, "b() { b | b & }; b; sleep 3600"]}]`), "apply", "-f", "-")
	c.eventually(t, "the bomb is seen", func(ctx context.Context) (bool, error) {
		p, err := c.CoreV1().Pods("default").Get(ctx, "bomb", metav1.GetOptions{})
		return err == nil && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting == nil, nil
	})
	c.kubectl(t, "", "delete", "pod", "bomb", "--grace-period=1", "--timeout=90s")
}

// messages: of what containers write for their end little is kept, and a pipe in its place is not waited for.
func (c *cluster) messages(t *testing.T) {
	const mount = `volumeMounts: [{name: v, mountPath: /dev/termination-log, subPath: at}]`
	var all strings.Builder
	all.WriteString(pod("long", `restartPolicy: Never
  containers: [{name: c, image: IMAGE, command: [sh, -c, "dd if=/dev/zero of=/dev/termination-log bs=1M count=64; echo the end >>/dev/termination-log"]}]`))
	all.WriteString("---\n" + pod("pipe", `restartPolicy: Never
  initContainers: [{name: i, image: IMAGE, command: [mkfifo, /v/at], volumeMounts: [{name: v, mountPath: /v}]}]
  containers: [{name: c, image: IMAGE, command: ["true"], `+mount+`}]
  volumes: [{name: v, emptyDir: {}}]`))
	c.kubectl(t, all.String(), "apply", "-f", "-")
	for name, want := range map[string]string{"long": "the end\n", "pipe": "not a regular file"} {
		p := c.until(t, name, "it is over", func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		})
		end := p.Status.ContainerStatuses[0].State.Terminated
		if got := end.Message; end.ExitCode != 0 || !strings.HasSuffix(got, want) || len(got) > 4096 {
			t.Errorf("%s: exit code %d, the message has %d bytes and ends %q", name, end.ExitCode, len(got), got[max(0, len(got)-100):])
		}
	}
}

// loud: a container writes much, without an end of a line, and its log stays within bounds.
func (c *cluster) loud(t *testing.T, n *node) {
	c.kubectl(t, pod("loud", `containers: [{name: c, image: IMAGE, command: [sh, -c, "head -c 40000000 /dev/zero | tr '\\\\0' x; echo; echo said; while :; do sleep 1; echo on; done"]}]`), "apply", "-f", "-")
	p := c.running(t, "loud")
	directory := fmt.Sprintf("/var/log/pods/default_loud_%s/c", p.UID)
	c.eventually(t, "the log is rotated", func(context.Context) (bool, error) {
		files := strings.Fields(n.Run(t, "ls", directory))
		return len(files) > 1 && len(files) <= 3, nil
	})
	c.eventually(t, "logs are shown", func(context.Context) (bool, error) {
		return strings.HasSuffix(c.kubectlMay(t, "logs", "loud", "--tail=1"), "on\n"), nil
	})
	if got := c.kubectl(t, "", "logs", "loud", "--limit-bytes=1000000"); len(got) > 1000000 {
		t.Errorf("%d bytes of a log that was to be a million", len(got))
	}
}

// links: a pod makes links of everything while the node mounts parts of its volumes, and never gets what is the node's.
func (c *cluster) links(t *testing.T, n *node) {
	n.Run(t, "sh", "-c", "mkdir -p /var/tmp/secret && echo secret >/var/tmp/secret/file")
	c.kubectl(t, pod("links", `restartPolicy: Always
  initContainers:
  - name: swaps
    image: IMAGE
    restartPolicy: Always
    command: [sh, -c, "mkdir -p /v/a; while :; do ln -sfn /var/tmp/secret /v/l; mv /v/a /v/b; ln -s /var/tmp/secret /v/a; rm /v/a; mv /v/b /v/a; done"]
    volumeMounts: [{name: v, mountPath: /v}]
  containers: [{name: c, image: IMAGE, command: [sh, -c, "cat /x/file; exit 1"], volumeMounts: [{name: v, mountPath: /x, subPath: a}]}]
  volumes: [{name: v, emptyDir: {}}]`), "apply", "-f", "-")
	deadline := time.Now().Add(10 * time.Second) // for as long it tries
	for time.Now().Before(deadline) {
		if got := c.kubectlMay(t, "logs", "links", "-c", "c"); strings.HasPrefix(got, "secret") {
			t.Fatal("the pod got what is the node's")
		}
		time.Sleep(time.Second)
	}
	c.kubectl(t, "", "delete", "pod", "links", "--grace-period=1", "--timeout=60s")
}

// stubborn: neither who ignores signals nor hooks and probes that never end keep a pod from its end.
func (c *cluster) stubborn(t *testing.T) {
	c.kubectl(t, pod("deaf", `terminationGracePeriodSeconds: 2
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, "trap '' TERM; while :; do sleep 1; done"]
    livenessProbe: {exec: {command: [sleep, "3600"]}, timeoutSeconds: 1, periodSeconds: 1, failureThreshold: 1000}
    lifecycle: {preStop: {exec: {command: [sleep, "3600"]}}}`)+"---\n"+pod("begins", `terminationGracePeriodSeconds: 2
  containers: [{name: c, image: IMAGE, command: [sleep, "3600"], lifecycle: {postStart: {exec: {command: [sleep, "3600"]}}}}]`), "apply", "-f", "-")
	c.running(t, "deaf")
	c.eventually(t, "a hook runs", func(ctx context.Context) (bool, error) {
		list, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=begins,reason=Started"})
		return err == nil && len(list.Items) > 0, err
	})
	c.kubectl(t, "", "delete", "pod", "deaf", "begins", "--timeout=60s")
}

// many: a pod with many containers, and one with many variables.
func (c *cluster) many(t *testing.T) {
	var containers, variables []string
	for i := range 60 {
		containers = append(containers, fmt.Sprintf("{name: c%d, image: IMAGE, command: [sleep, '3600']}", i))
	}
	for i := range 1000 {
		variables = append(variables, fmt.Sprintf("{name: V%d, value: 'the value of V%d and $(V%d)'}", i, i, i-1))
	}
	c.kubectl(t, pod("containers", "containers: ["+strings.Join(containers, ", ")+"]")+"---\n"+
		pod("variables", "containers: [{name: c, image: IMAGE, command: [sleep, '3600'], env: ["+strings.Join(variables[:100], ", ")+"]}]"), "apply", "-f", "-")
	if p := c.running(t, "containers"); len(p.Status.ContainerStatuses) != 60 {
		t.Errorf("%d containers", len(p.Status.ContainerStatuses))
	}
	c.running(t, "variables")
	if got := c.kubectl(t, "", "exec", "variables", "--", "sh", "-c", "echo $V1"); got != "the value of V1 and the value of V0 and $(V-1)\n" {
		t.Errorf("a variable is %q", got)
	}
	c.kubectl(t, "", "delete", "pod", "containers", "variables", "--timeout=90s")
}

// pulling: a pod is deleted while its image is pulled, from a registry that does not answer.
func (c *cluster) pulling(t *testing.T) {
	name := "registry.k8s.io/slow:1"
	image := *noderuntime.Busybox(t)
	image.Name = name
	c.fabric.Registry.Add(t, &image)
	release := make(chan struct{})
	asked := make(chan struct{}, 100)
	intercept := func(_ http.ResponseWriter, req *http.Request) bool {
		if strings.Contains(req.URL.Path, "/slow/") {
			asked <- struct{}{}
			select {
			case <-release:
			case <-req.Context().Done():
			}
		}
		return false
	}
	c.fabric.Registry.Intercept.Store(&intercept)
	defer c.fabric.Registry.Intercept.Store(nil)
	defer close(release)
	c.kubectl(t, pod("slow", "containers: [{name: c, image: '"+name+"', command: [sleep, '3600']}]"), "apply", "-f", "-")
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("nobody asked for the image")
	}
	c.kubectl(t, "", "delete", "pod", "slow", "--timeout=60s")
}

// again: a pod is made again under its name as soon as there is none of it.
func (c *cluster) again(t *testing.T) {
	manifest := pod("again", "terminationGracePeriodSeconds: 1\n  containers: [{name: c, image: IMAGE, command: [sh, -c, 'sleep 3600'], ports: [{containerPort: 80, hostPort: 8124}]}]")
	c.kubectl(t, manifest, "apply", "-f", "-")
	before := c.running(t, "again").UID
	for range 2 {
		if err := c.CoreV1().Pods("default").Delete(t.Context(), "again", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.eventually(t, "its name is free", func(ctx context.Context) (bool, error) {
			_, err := c.CoreV1().Pods("default").Get(ctx, "again", metav1.GetOptions{})
			return apierrors.IsNotFound(err), nil
		})
		c.kubectl(t, manifest, "apply", "-f", "-")
		now := c.running(t, "again")
		if now.UID == before || now.Status.ContainerStatuses[0].RestartCount > 0 {
			t.Errorf("pod %s after %s: %+v", now.UID, before, now.Status)
		}
		before = now.UID
	}
}
