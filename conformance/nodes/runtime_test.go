package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// forbidden keeps a container from changing modes of files.
const forbidden = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod", "fchmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"}]}`

// ways are pods that ask a runtime for more than the usual, and what is true in each of them.
var ways = map[string]struct {
	spec, container, script, want string
	lacks                         []noderuntime.Kind // runtimes that cannot do it
}{
	"own-processes": {script: "cat /proc/1/cmdline | tr '\\0' ' ' | cut -c1-5", want: "sleep"},
	"shared-processes": {
		spec: `"shareProcessNamespace": true`, script: "cat /proc/1/cmdline | tr '\\0' ' ' | cut -c1-6", want: "/pause",
	},
	"node-processes": {spec: `"hostPID": true`, script: "tr '\\0' '\\n' </proc/1/cmdline | grep -c machine.sh", want: "1"},
	"node-network":   {spec: `"hostNetwork": true, "dnsPolicy": "Default"`, script: "hostname; ls /sys/class/net | grep -cx eth0", want: "one\n1"},
	"node-ipc":       {spec: `"hostIPC": true`, script: "echo fine", want: "fine"},
	"sysctl": {
		spec:   `"securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "77"}]}`,
		script: "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", want: "77",
	},
	"no-filter": {
		container: `"securityContext": {"seccompProfile": {"type": "Unconfined"}}`, script: "grep Seccomp: /proc/self/status | tr -d '\\t'", want: "Seccomp:0",
	},
	"own-filter": {
		container: `"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "tests/no-chmod.json"}}`,
		script:    "touch /tmp/f; chmod 600 /tmp/f 2>/dev/null || echo refused", want: "refused",
	},
	"groups": {
		spec:   `"securityContext": {"runAsUser": 1000, "runAsGroup": 1001, "supplementalGroups": [1002], "fsGroup": 1003}`,
		script: "id -u; id -g; id -G", want: "1000\n1001\n1001 1002 1003",
	},
	"strict-groups": {
		spec:   `"securityContext": {"runAsUser": 1, "supplementalGroups": [1002], "supplementalGroupsPolicy": "Strict"}`,
		script: "id -G | tr ' ' '\\n' | grep -c 1002", want: "1", lacks: []noderuntime.Kind{noderuntime.OldContainerd},
	},
	"privileged": {
		container: `"securityContext": {"privileged": true}`, script: "mkdir /m && mount -t tmpfs none /m && echo mounted", want: "mounted",
	},
	"capabilities": {
		container: `"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}`,
		script:    "ip link add d0 type bridge && echo added; chown 1 /tmp 2>/dev/null || echo refused", want: "added\nrefused",
	},
	"no-new-privileges": {
		container: `"securityContext": {"allowPrivilegeEscalation": false}`, script: "grep NoNewPrivs /proc/self/status | tr -d '\\t'", want: "NoNewPrivs:1",
	},
	"users": {
		spec: `"hostUsers": false`, script: "awk '$1 == 0 && $2 >= 65536 && $3 == 65536 {print \"own\"}' /proc/self/uid_map; touch /data/f && stat -c %u /data/f", want: "own\n0",
		lacks: []noderuntime.Kind{noderuntime.OldContainerd},
	},
	"image-volume": {
		spec:      `"volumes": [{"name": "data", "emptyDir": {}}, {"name": "image", "image": {"reference": "` + noderuntime.PauseImage + `"}}]`,
		container: `"volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "image", "mountPath": "/image", "readOnly": true}]`,
		script:    "ls /image | grep pause; touch /image/x 2>/dev/null || echo refused", want: "pause\nrefused", lacks: []noderuntime.Kind{noderuntime.OldContainerd},
	},
	"read-only-below": {
		spec:      `"volumes": [{"name": "data", "hostPath": {"path": "/var/tmp/below", "type": "DirectoryOrCreate"}}]`,
		container: `"volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": true, "recursiveReadOnly": "Enabled"}]`,
		script:    "touch /data/x 2>/dev/null || echo refused", want: "refused", lacks: []noderuntime.Kind{noderuntime.OldContainerd},
	},
	"memory-volume": {
		spec: `"volumes": [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]`, script: "stat -f -c %T /data", want: "tmpfs",
	},
	"hosts":    {spec: `"hostAliases": [{"ip": "10.1.2.3", "hostnames": ["alias"]}]`, script: "grep -c '10.1.2.3.*alias' /etc/hosts", want: "1"},
	"resolver": {spec: `"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.9.8.7"]}`, script: "cat /etc/resolv.conf", want: "nameserver 10.9.8.7"},
	"limits": {
		container: `"resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}`,
		script: "if [ -e /sys/fs/cgroup/memory.max ]; then cat /sys/fs/cgroup/memory.max; cut -d' ' -f1 /sys/fs/cgroup/cpu.max; " +
			"else cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us; fi", want: "67108864\n25000",
	},
	"host-port": {container: `"ports": [{"containerPort": 8080, "hostPort": 8081}]`, script: "echo fine", want: "fine"},
}

// way is such a pod.
func way(name, spec, container string) string {
	for _, part := range []*string{&spec, &container} {
		if *part != "" {
			*part += ", "
		}
	}
	if !strings.Contains(spec, `"volumes"`) {
		spec += `"volumes": [{"name": "data", "emptyDir": {}}], `
	}
	if !strings.Contains(container, `"volumeMounts"`) {
		container += `"volumeMounts": [{"name": "data", "mountPath": "/data"}], `
	}
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %q, "labels": {"app": %q}}, "spec": {%s
		"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": %q, %s "command": ["sleep", "3600"]}]}}`,
		name, name, spec, noderuntime.BusyboxImage, container)
}

// TestWays runs pods that ask the runtime for more than the usual.
func TestWays(t *testing.T) {
	c := newCluster(t, "one")
	n, kind := c.nodes[0], noderuntime.Chosen(t)
	profiles := n.Path("/var/lib/rowlock/agent/seccomp/tests")
	if err := os.MkdirAll(profiles, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(profiles, "no-chmod.json"), []byte(forbidden), 0o644); err != nil {
		t.Fatal(err)
	}
	var all []string
	for name, w := range ways {
		if !slices.Contains(w.lacks, kind) {
			all = append(all, way(name, w.spec, w.container))
		}
	}
	c.kubectl(t, strings.Join(all, "\n"), "apply", "-f", "-")
	for name, w := range ways {
		if slices.Contains(w.lacks, kind) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c.ready(t, name, 1)
			if got := strings.TrimSpace(c.kubectl(t, "", "exec", name, "--", "sh", "-c", w.script)); got != w.want {
				t.Errorf("%s says %q, want %q", w.script, got, w.want)
			}
		})
	}
	t.Run("port of the node", func(t *testing.T) { c.hostPort(t, n) })
	t.Run("figures", func(t *testing.T) { c.figures(t) })
	t.Run("nothing is left", func(t *testing.T) {
		c.kubectl(t, "", "delete", "pods", "--all", "--timeout=120s")
		service, _ := n.CRI(t)
		left := func() (left []string) {
			sandboxes, err := service.ListPodSandbox(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range sandboxes {
				left = append(left, fmt.Sprintf("sandbox of %s, %s", s.Metadata.Name, s.State))
			}
			return append(left, strings.Fields(n.Run(t, "sh", "-c", "find /sys/fs/cgroup -type d -path '*kubepods*/pod*' 2>/dev/null || true"))...)
		}
		for until := time.Now().Add(patience); len(left()) > 0; time.Sleep(500 * time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("left: %s\n%s", strings.Join(left(), "\n"), n.agent.Tail(30))
			}
		}
	})
}

// hostPort reaches a pod by its node's port, from another machine and from the node itself.
func (c *cluster) hostPort(t *testing.T, n *node) {
	pod := c.ready(t, "host-port", 1)[0]
	listen := c.command(t, "exec", pod.Name, "--", "sh", "-c", "while :; do echo hello | nc -l -p 8080; done")
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = listen.Process.Kill()
		_ = listen.Wait()
	}()
	for from, dial := range map[string]func(context.Context, string) (net.Conn, error){"outside": c.fabric.Dial, "the node": n.Dial} {
		for _, host := range []string{n.Address, "127.0.0.1"} {
			if from == "outside" && host == "127.0.0.1" {
				continue
			}
			c.eventually(t, from+" by "+host, func(ctx context.Context) (bool, error) {
				ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
				defer cancel()
				conn, err := dial(ctx, net.JoinHostPort(host, "8081"))
				if err != nil {
					return false, nil //nolint:nilerr // not yet
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
				data, _ := io.ReadAll(conn)
				return string(data) == "hello\n", nil
			})
		}
	}
}

// figures are those of a pod that runs, in the node's summary.
func (c *cluster) figures(t *testing.T) {
	pod := c.ready(t, "limits", 1)[0]
	c.eventually(t, "figures of a pod", func(ctx context.Context) (bool, error) {
		data, err := c.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/one/proxy/stats/summary").DoRaw(ctx)
		if err != nil {
			return false, err
		}
		var summary statsapi.Summary
		if err := json.Unmarshal(data, &summary); err != nil {
			return false, err
		}
		for _, p := range summary.Pods {
			if p.PodRef.UID != string(pod.UID) {
				continue
			}
			some := func(n *uint64) bool { return n != nil && *n > 0 }
			if p.Network != nil && p.Network.Name != "eth0" {
				t.Errorf("the pod's network is that of %s", p.Network.Name)
			}
			return p.CPU != nil && p.CPU.UsageNanoCores != nil && some(p.CPU.UsageCoreNanoSeconds) && p.Memory != nil && some(p.Memory.WorkingSetBytes) &&
				len(p.Containers) == 1 && p.Containers[0].Memory != nil && some(p.Containers[0].Memory.WorkingSetBytes) && p.Containers[0].Rootfs != nil &&
				(p.Network != nil || noderuntime.Chosen(t) == noderuntime.OldContainerd), nil
		}
		return false, nil
	})
	c.eventually(t, "the node's images", func(ctx context.Context) (bool, error) { // the runtime is asked for them every 30 seconds
		node, err := c.CoreV1().Nodes().Get(ctx, "one", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(node.Status.Images, func(image corev1.ContainerImage) bool {
			return slices.Contains(image.Names, noderuntime.BusyboxImage)
		}), nil
	})
}

// troubled are pods with failures, hooks, and other resources to come.
const troubled = `
apiVersion: v1
kind: Pod
metadata: {name: last-words}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: IMAGE, command: [sh, -c, 'echo these are the last words >&2; exit 4'], terminationMessagePolicy: FallbackToLogsOnError}
---
apiVersion: v1
kind: Pod
metadata: {name: no-program}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: IMAGE, command: [/no/such/program]}
---
apiVersion: v1
kind: Pod
metadata: {name: slow-probe}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: IMAGE
    command: [sleep, "3600"]
    livenessProbe: {exec: {command: [sleep, "60"]}, timeoutSeconds: 1, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: hooks, labels: {app: hooks}}
spec:
  terminationGracePeriodSeconds: 20
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, 'trap "cat /tmp/hook >/data/end; exit 0" TERM; while :; do sleep 0.1; done']
    lifecycle:
      postStart: {exec: {command: [sh, -c, 'echo begun >/tmp/begun']}}
      preStop: {exec: {command: [sh, -c, 'echo pre-stop ran >/tmp/hook']}}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, hostPath: {path: /var/tmp/hooks, type: DirectoryOrCreate}}]
---
apiVersion: v1
kind: Pod
metadata: {name: grows, labels: {app: grows}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: IMAGE, command: [sleep, "3600"], resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}}
`

// TestTroubles: what goes wrong with containers is told in the same words whatever the runtime, hooks run, and resources change in
// place.
func TestTroubles(t *testing.T) {
	c := newCluster(t, "one")
	n := c.nodes[0]
	c.kubectl(t, strings.ReplaceAll(troubled, "IMAGE", noderuntime.BusyboxImage), "apply", "-f", "-")
	status := func(t *testing.T, name string, reached func(*corev1.ContainerStatus) bool) *corev1.ContainerStatus {
		t.Helper()
		var got *corev1.ContainerStatus
		c.eventually(t, name, func(ctx context.Context) (bool, error) {
			pod, err := c.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
			if err != nil || len(pod.Status.ContainerStatuses) == 0 {
				return false, err
			}
			got = &pod.Status.ContainerStatuses[0]
			return reached(got), nil
		})
		return got
	}
	t.Run("last words", func(t *testing.T) {
		s := status(t, "last-words", func(s *corev1.ContainerStatus) bool { return s.State.Terminated != nil })
		if end := s.State.Terminated; end.ExitCode != 4 || end.Reason != "Error" || end.Message != "these are the last words\n" {
			t.Errorf("it ended with %+v", end)
		}
		if !strings.Contains(s.ImageID, "sha256:") && !strings.Contains(s.ImageID, "@") || s.Image != noderuntime.BusyboxImage {
			t.Errorf("its image is %s, %s", s.Image, s.ImageID)
		}
	})
	t.Run("no program", func(t *testing.T) {
		s := status(t, "no-program", func(s *corev1.ContainerStatus) bool {
			return s.State.Waiting != nil && s.State.Waiting.Reason != "ContainerCreating"
		})
		switch s.State.Waiting.Reason {
		case "RunContainerError", "CreateContainerError", "CrashLoopBackOff":
		default:
			t.Errorf("it waits for %+v", s.State.Waiting)
		}
		if !strings.Contains(s.State.Waiting.Message+fmt.Sprint(s.LastTerminationState.Terminated), "/no/such/program") {
			t.Errorf("nothing says that there is no such program: %+v, %+v", s.State.Waiting, s.LastTerminationState.Terminated)
		}
	})
	t.Run("slow probe", func(t *testing.T) {
		status(t, "slow-probe", func(s *corev1.ContainerStatus) bool { return s.RestartCount > 0 })
	})
	t.Run("resize", func(t *testing.T) {
		pod := c.ready(t, "grows", 1)[0]
		c.kubectl(t, "", "patch", "pod", "grows", "--subresource=resize", "-p",
			`{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"150m"},"limits":{"cpu":"300m","memory":"96Mi"}}}]}}`)
		s := status(t, "grows", func(s *corev1.ContainerStatus) bool {
			return s.Resources != nil && s.Resources.Limits.Cpu().MilliValue() == 300 && s.Resources.Limits.Memory().Value() == 96<<20
		})
		if s.RestartCount != 0 || s.ContainerID != pod.Status.ContainerStatuses[0].ContainerID {
			t.Errorf("it was restarted: %+v", s)
		}
		got := c.kubectl(t, "", "exec", "grows", "--", "sh", "-c", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true")
		if strings.TrimSpace(got) != fmt.Sprint(96<<20) {
			t.Errorf("the memory that it may have is %s", got)
		}
	})
	t.Run("hooks", func(t *testing.T) {
		c.ready(t, "hooks", 1)
		if got := c.kubectl(t, "", "exec", "hooks", "--", "cat", "/tmp/begun"); got != "begun\n" {
			t.Errorf("after its start hook it says %q", got)
		}
		c.kubectl(t, "", "delete", "pod", "hooks", "--timeout=60s")
		if got, err := os.ReadFile(n.Path("/var/tmp/hooks/end")); string(got) != "pre-stop ran\n" {
			t.Errorf("at its end the hook had said %q, %v", got, err)
		}
	})
	t.Run("it is not tried without pause", func(t *testing.T) {
		list, err := c.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=no-program,reason=Failed"})
		if err != nil {
			t.Fatal(err)
		}
		pod, err := c.CoreV1().Pods("default").Get(t.Context(), "no-program", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		failures := 0
		for _, e := range list.Items {
			failures += max(1, int(e.Count))
		}
		if age := time.Since(pod.CreationTimestamp.Time); failures == 0 || failures > 4+int(age/(5*time.Second)) {
			t.Errorf("it was tried %d times in %v", failures, age)
		}
	})
	c.kubectl(t, "", "delete", "pods", "--all", "--timeout=120s")
	c.eventually(t, "the pods are gone", func(ctx context.Context) (bool, error) {
		_, err := c.CoreV1().Pods("default").Get(ctx, "no-program", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
}
