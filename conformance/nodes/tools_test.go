package nodes

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// app is a deployment that prefers to be on all nodes, and a budget of how much of it is to stay.
const app = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - {weight: 100, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: app}}}}
      containers:
      - {name: first, image: ` + noderuntime.BusyboxImage + `, command: [sh, -c, 'echo from first; exec sleep 3600'], volumeMounts: [{name: data, mountPath: /data}]}
      - name: second
        image: ` + noderuntime.BusyboxImage + `
        command: [sh, -c, 'echo from second; mkdir -p /data; head -c 1000000 /dev/urandom >/data/file; exec httpd -f -h /data -p 8080']
        readinessProbe: {httpGet: {path: /file, port: 8080}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, emptyDir: {}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: app}
spec: {minAvailable: 2, selector: {matchLabels: {app: app}}}
`

// slow is a pod whose first container takes its time.
const slow = `
apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  terminationGracePeriodSeconds: 0
  initContainers: [{name: prepare, image: ` + noderuntime.BusyboxImage + `, command: [sh, -c, 'echo preparing; sleep 3600']}]
  containers: [{name: c, image: ` + noderuntime.BusyboxImage + `, command: [sleep, "3600"]}]
`

// TestTools does with nodes and pods what is more than everyday.
func TestTools(t *testing.T) {
	long(t)
	c := newCluster(t, "one", "two")
	c.kubectl(t, app+"---"+slow, "apply", "-f", "-")
	pod := c.ready(t, "app", 2)[0].Name
	t.Run("node", func(t *testing.T) { c.describeNodes(t) })
	t.Run("logs", func(t *testing.T) {
		out := c.kubectl(t, "", "logs", pod, "--all-containers", "--prefix", "--timestamps", "--since=1h")
		for _, name := range []string{"first", "second"} {
			if !regexp.MustCompile(`(?m)^\[pod/` + pod + `/` + name + `\] \d{4}-\d\d-\d\dT[0-9:.]+\S* from ` + name + `$`).MatchString(out) {
				t.Errorf("without %s:\n%s", name, out)
			}
		}
		if out := c.kubectl(t, "", "logs", "-l", "app=app", "--all-containers", "--tail=1"); strings.Count(out, "from ") != 4 {
			t.Errorf("by label:\n%s", out)
		}
		if out := c.kubectl(t, "", "logs", pod, "-c", "first", "--since=1s"); out != "" {
			t.Errorf("of the last second: %q", out)
		}
	})
	t.Run("before it is ready", func(t *testing.T) {
		c.eventually(t, "the first container runs", func(context.Context) (bool, error) {
			return c.kubectlMay(t, "exec", "slow", "-c", "prepare", "--", "echo", "here") == "here\n", nil
		})
		if out := c.kubectl(t, "", "logs", "slow", "-c", "prepare"); out != "preparing\n" {
			t.Errorf("its log is %q", out)
		}
		if out := c.kubectlMay(t, "logs", "slow"); !strings.Contains(out, `container "c" in pod "slow" is waiting to start: PodInitializing`) {
			t.Errorf("the other's log: %s", out)
		}
		if out := c.kubectlMay(t, "exec", "slow", "--", "true"); !strings.Contains(out, `container not found ("c")`) {
			t.Errorf("in the other: %s", out)
		}
	})
	t.Run("terminal", func(t *testing.T) { c.terminal(t, pod) })
	t.Run("cp of a directory", func(t *testing.T) { c.copies(t, pod) })
	t.Run("port-forward under load", func(t *testing.T) { c.loadedPort(t, pod) })
	t.Run("debug", func(t *testing.T) { c.debugs(t, pod) })
	t.Run("drain", func(t *testing.T) { c.drains(t) })
}

func (c *cluster) describeNodes(t *testing.T) {
	n := c.nodes[0]
	out := c.kubectl(t, "", "get", "node", "one", "-o", "wide")
	if !regexp.MustCompile(`(?m)^one +Ready +<none> +\S+ +v1\.\S+ +` + regexp.QuoteMeta(n.Address) + ` +<none> +\S.* +\S+ +containerd://2\.\S+`).MatchString(out) {
		t.Errorf("kubectl get -o wide:\n%s", out)
	}
	out = c.kubectl(t, "", "describe", "node", "one")
	for _, want := range []string{
		`Hostname: +one`, `MemoryPressure +False .*KubeletHasSufficientMemory`, `Ready +True .*KubeletReady`, `Non-terminated Pods: +\(`, `default +app-`,
		`Allocated resources:`, `Normal +Starting .*Starting kubelet\.`, `Normal +NodeReady `, `Container Runtime Version: +containerd://2`, `PodCIDR: +10\.244\.`,
		`Lease:\n +HolderIdentity: +one`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("kubectl describe has no %s:\n%s", want, out)
		}
	}
}

// terminal has the size of a terminal, and the next one, come to a process.
func (c *cluster) terminal(t *testing.T, pod string) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("script, which makes terminals, is not installed")
	}
	kubectl := c.command(t)
	// A terminal has no size until kubectl tells it. It is another one once the first was seen.
	line := "stty rows 40 cols 100; (while [ ! -e /tmp/seen ]; do sleep 0.1; done; stty rows 50 cols 120 </dev/tty) & exec " + kubectl.Path + " exec -it " + pod +
		" -c first -- sh -c 'until [ \"$(stty size 2>/dev/null)\" = \"40 100\" ]; do sleep 0.1; done; echo first; until [ \"$(stty size)\" = \"50 120\" ]; do sleep 0.1; done; echo second; tty'"
	seen := filepath.Join(t.TempDir(), "seen")
	line = strings.ReplaceAll(line, "/tmp/seen", seen)
	cmd := exec.CommandContext(t.Context(), script, "-qec", line, "/dev/null")
	cmd.Env = append(kubectl.Env, "SHELL=/bin/sh")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said += lines.Text() + "\n"
		if strings.HasSuffix(lines.Text(), "first") {
			if err := os.WriteFile(seen, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !strings.HasSuffix(said, "second\n/dev/pts/0\n") {
		t.Errorf("the terminal: %v\n%s", err, said)
	}
}

// sums are those of the files in a directory.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (c *cluster) copies(t *testing.T, pod string) {
	from, to := t.TempDir(), t.TempDir()
	large := make([]byte, 5<<20)
	_, _ = rand.Read(large)
	for name, data := range map[string][]byte{"a": []byte("a"), "empty": nil, "deep/er/b": []byte("b"), "deep/large": large, "with space": []byte("c")} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.kubectl(t, "", "cp", from, pod+":/data/there", "-c", "first")
	c.kubectl(t, "", "cp", pod+":/data/there", to, "-c", "first")
	if want, got := fmt.Sprint(sums(t, from)), fmt.Sprint(sums(t, to)); want != got {
		t.Errorf("there %s\nand back %s", want, got)
	}
}

// loadedPort fetches much over one port-forward at a time.
func (c *cluster) loadedPort(t *testing.T, pod string) {
	c.forwarded(t, pod, func(url string) {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		fetch := func() ([]byte, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/file", nil)
			if err != nil {
				return nil, err
			}
			resp, err := client.Do(req)
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			return io.ReadAll(resp.Body)
		}
		first, err := fetch()
		if err != nil || len(first) != 1000000 {
			t.Fatalf("%d bytes, %v", len(first), err)
		}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for range 3 {
					if got, err := fetch(); err != nil || !bytes.Equal(got, first) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				}
			})
		}
		all.Wait()
	})
}

func (c *cluster) debugs(t *testing.T, pod string) {
	// Of a node: a pod in the node's namespaces, with its files at /host.
	out := c.kubectl(t, "", "debug", "node/one", "--image="+noderuntime.BusyboxImage, "--profile=sysadmin", "--", "sleep", "3600")
	name := regexp.MustCompile(`node-debugger-one-\w+`).FindString(out)
	if name == "" {
		t.Fatalf("debug of a node says %q", out)
	}
	c.eventually(t, "the node's debugger sees the node", func(context.Context) (bool, error) {
		out = c.kubectlMay(t, "exec", name, "--", "sh", "-c", "cat /host/etc/hostname; ps | grep -c '[r]owlock agent'")
		return out == "one\n1\n", nil
	})
	c.kubectl(t, "", "delete", "pod", name, "--wait=false")
	// Of a pod: a copy that shares its processes.
	c.kubectl(t, "", "debug", pod, "--copy-to=copy", "--share-processes", "--image="+noderuntime.BusyboxImage, "-c", "debugger", "--profile=general", "--", "sleep", "3600")
	c.eventually(t, "the copy runs", func(context.Context) (bool, error) {
		return strings.Contains(c.kubectlMay(t, "exec", "copy", "-c", "debugger", "--", "ps"), "httpd"), nil
	})
	c.kubectl(t, "", "delete", "pod", "copy", "--wait=false")
	// Into a pod: a container that sees another one's processes and files.
	c.kubectl(t, "", "debug", pod, "--target=second", "-c", "within", "--image="+noderuntime.BusyboxImage, "--profile=sysadmin", "--", "sleep", "3600")
	c.eventually(t, "the debugger sees the target's files", func(context.Context) (bool, error) {
		return c.kubectlMay(t, "exec", pod, "-c", "within", "--", "ls", "/proc/1/root/data/file") == "/proc/1/root/data/file\n", nil
	})
}

func (c *cluster) drains(t *testing.T) {
	where := func() (on map[string]int) {
		on = map[string]int{}
		for _, p := range c.ready(t, "app", 2) {
			on[p.Spec.NodeName]++
		}
		return on
	}
	if on := where(); on["one"] != 1 || on["two"] != 1 {
		t.Fatalf("pods are on %v", on)
	}
	drain := []string{"drain", "two", "--delete-emptydir-data", "--force", "--ignore-daemonsets"}
	if out := c.kubectlMay(t, append(drain, "--timeout=3s")...); !strings.Contains(out, "Cannot evict pod as it would violate the pod's disruption budget") {
		t.Errorf("drain against the budget:\n%s", out)
	}
	c.kubectl(t, "", "patch", "pdb", "app", "-p", `{"spec":{"minAvailable":1}}`)
	out := c.kubectl(t, "", append(drain, "--timeout=2m")...)
	if !strings.Contains(out, "node/two drained") {
		t.Errorf("drain says:\n%s", out)
	}
	if on := where(); on["one"] != 2 {
		t.Errorf("after the drain pods are on %v", on)
	}
	if out := c.kubectl(t, "", "get", "node", "two"); !strings.Contains(out, "Ready,SchedulingDisabled") {
		t.Errorf("the drained node:\n%s", out)
	}
	c.kubectl(t, "", "uncordon", "two")
	began := metav1.Now()
	c.kubectl(t, "", "rollout", "restart", "deployment/app")
	c.kubectl(t, "", "rollout", "status", "deployment/app", "--timeout=2m")
	if on := where(); on["two"] == 0 {
		t.Errorf("after the restart pods are on %v", on)
	}
	for _, p := range c.ready(t, "app", 2) {
		if p.CreationTimestamp.Before(&metav1.Time{Time: began.Truncate(time.Second)}) || p.Status.Phase != corev1.PodRunning {
			t.Errorf("%s is from before the restart, or is %s", p.Name, p.Status.Phase)
		}
	}
	c.kubectl(t, "", "cordon", "one")
	if out := c.kubectl(t, "", "get", "node", "one"); !strings.Contains(out, "SchedulingDisabled") {
		t.Errorf("the cordoned node:\n%s", out)
	}
	c.kubectl(t, "", "uncordon", "one")
}
