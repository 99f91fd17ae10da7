package nodes

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// tools is a pod with what kubectl's commands need, and with what pods get from the cluster.
const tools = `
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {greeting: hello, file: "in a file"}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: sesame}
---
apiVersion: v1
kind: Pod
metadata: {name: tools, labels: {app: tools}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: first, image: ` + noderuntime.BusyboxImage + `, command: [sh, -c, echo made by init >/data/init], volumeMounts: [{name: data, mountPath: /data}]}
  containers:
  - name: c
    image: ` + noderuntime.BusyboxImage + `
    stdin: true
    command: [sh, -c, 'n=0; while :; do echo line $n; n=$((n+1)); sleep 0.2; done & while read x; do echo got $x; done; wait']
    env:
    - {name: GREETING, valueFrom: {configMapKeyRef: {name: words, key: greeting}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: hidden, key: password}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    resources: {limits: {cpu: 250m, memory: 64Mi}}
    securityContext: {runAsUser: 1234, readOnlyRootFilesystem: true}
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: words, mountPath: /words}
    - {name: sub, mountPath: /sub/greeting, subPath: greeting}
  securityContext: {fsGroup: 77, seccompProfile: {type: RuntimeDefault}}
  volumes:
  - {name: data, emptyDir: {}}
  - {name: words, configMap: {name: words}}
  - {name: sub, configMap: {name: words}}
`

// TestKubectl does with one pod what people do with kubectl.
func TestKubectl(t *testing.T) {
	c := newCluster(t, "one")
	c.kubectl(t, tools, "apply", "-f", "-")
	c.ready(t, "tools", 1)
	sh := func(t *testing.T, script string) string {
		t.Helper()
		return strings.TrimSpace(c.kubectl(t, "", "exec", "tools", "-c", "c", "--", "sh", "-c", script))
	}
	t.Run("what a container gets", func(t *testing.T) {
		for script, want := range map[string]string{
			"echo $GREETING $PASSWORD $CPU":           "hello sesame 250",
			"cat /words/file /sub/greeting":           "in a filehello",
			"cat /data/init":                          "made by init",
			"id -u; id -G":                            "1234\n0 77",
			"stat -c %g /data":                        "77",
			"touch /x 2>&1 || true":                   "touch: /x: Read-only file system",
			"cat /etc/hostname":                       "tools",
			"grep -c Seccomp:.2 /proc/self/status":    "1",
			"test $(hostname -i) = $IP && echo same":  "same",
			"ls /var/run/secrets/kubernetes.io/*/":    "ca.crt\nnamespace\ntoken",
			"cat /var/run/secrets/kubernetes.io/*/n*": "default",
		} {
			if got := sh(t, script); got != want {
				t.Errorf("%s says %q, want %q", script, got, want)
			}
		}
	})
	t.Run("logs -f", func(t *testing.T) {
		cmd := c.command(t, "logs", "-f", "--tail=1", "tools", "-c", "c")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}()
		lines := bufio.NewScanner(out)
		for n := 0; n < 5; n++ {
			if !lines.Scan() || !strings.HasPrefix(lines.Text(), "line ") {
				t.Fatalf("line %d of the log is %q, %v", n, lines.Text(), lines.Err())
			}
		}
	})
	t.Run("attach", func(t *testing.T) {
		cmd := c.command(t, "attach", "-i", "tools", "-c", "c")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			_, err = in.Write([]byte("this\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}()
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if lines.Text() == "got this" {
				return
			}
		}
		t.Errorf("the output ended before it came: %v", lines.Err())
	})
	t.Run("cp", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte("there and back"), 0o644); err != nil {
			t.Fatal(err)
		}
		c.kubectl(t, "", "cp", filepath.Join(dir, "a"), "tools:/data/a", "-c", "c")
		c.kubectl(t, "", "cp", "tools:/data/a", filepath.Join(dir, "b"), "-c", "c")
		if got, err := os.ReadFile(filepath.Join(dir, "b")); string(got) != "there and back" {
			t.Errorf("what came back is %q, %v", got, err)
		}
	})
	t.Run("debug", func(t *testing.T) {
		c.kubectl(t, "", "debug", "tools", "--image="+noderuntime.BusyboxImage, "--target=c", "-c", "debugger", "--profile=general", "--", "sleep", "3600")
		c.eventually(t, "the ephemeral container runs", func(ctx context.Context) (bool, error) {
			pod, err := c.CoreV1().Pods("default").Get(ctx, "tools", metav1.GetOptions{})
			return err == nil && len(pod.Status.EphemeralContainerStatuses) == 1 && pod.Status.EphemeralContainerStatuses[0].State.Running != nil, err
		})
		if got := c.kubectl(t, "", "exec", "tools", "-c", "debugger", "--", "ps"); !strings.Contains(got, "echo line") {
			t.Errorf("the debugger does not see the container's processes:\n%s", got)
		}
	})
}

// TestEnds: pods that fail and pods that are done say so as with Kubernetes.
func TestEnds(t *testing.T) {
	c := newCluster(t, "one")
	status := func(name string, reached func(*corev1.Pod) bool) *corev1.Pod {
		t.Helper()
		var pod *corev1.Pod
		c.eventually(t, name, func(ctx context.Context) (bool, error) {
			var err error
			pod, err = c.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
			return err == nil && reached(pod), err
		})
		return pod
	}
	phase := func(want corev1.PodPhase) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool { return p.Status.Phase == want }
	}
	waiting := func(why string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == why
		}
	}
	run := func(name, restart string, more ...string) {
		t.Helper()
		image := noderuntime.BusyboxImage
		if name == "no-image" {
			image = "registry.k8s.io/nothing:1"
		}
		c.kubectl(t, "", append([]string{"run", name, "--image=" + image, "--restart=" + restart}, more...)...)
	}
	run("no-image", "Never")
	run("done", "Never", "--", "sh", "-c", "echo bye >/dev/termination-log")
	run("failed", "Never", "--", "sh", "-c", "exit 3")
	run("crashes", "Always", "--", "sh", "-c", "exit 1")
	run("hungry", "Never", `--overrides={"spec":{"containers":[{"name":"hungry","image":"`+noderuntime.BusyboxImage+
		`","command":["sh","-c","tail /dev/zero"],"resources":{"limits":{"memory":"20Mi"}}}]}}`)
	if pod := status("done", phase(corev1.PodSucceeded)); pod.Status.ContainerStatuses[0].State.Terminated.Message != "bye\n" {
		t.Errorf("the message is %q", pod.Status.ContainerStatuses[0].State.Terminated.Message)
	}
	if pod := status("failed", phase(corev1.PodFailed)); pod.Status.ContainerStatuses[0].State.Terminated.ExitCode != 3 {
		t.Errorf("it ended with %+v", pod.Status.ContainerStatuses[0].State.Terminated)
	}
	if pod := status("hungry", phase(corev1.PodFailed)); pod.Status.ContainerStatuses[0].State.Terminated.Reason != "OOMKilled" {
		t.Errorf("it ended with %+v", pod.Status.ContainerStatuses[0].State.Terminated)
	}
	status("no-image", waiting("ImagePullBackOff"))
	if pod := status("crashes", waiting("CrashLoopBackOff")); pod.Status.ContainerStatuses[0].RestartCount == 0 {
		t.Error("it was not started again")
	}
}
