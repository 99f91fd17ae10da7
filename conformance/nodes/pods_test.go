package nodes

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// web serves its pod's name. One replica is on each node, as far as there are nodes.
const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: c
        image: ` + noderuntime.BusyboxImage + `
        env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        command: [sh, -c, 'mkdir /www; echo "$POD" >/www/index.html; echo serving "$POD"; exec httpd -f -h /www -p 8080']
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
`

// TestDeployment runs a Deployment on two nodes, and does to its pods what people do with kubectl.
func TestDeployment(t *testing.T) {
	c := newCluster(t, "one", "two")
	c.kubectl(t, fmt.Sprintf(web, 2), "apply", "-f", "-")
	pods := c.ready(t, "web", 2)
	if pods[0].Spec.NodeName == pods[1].Spec.NodeName {
		t.Errorf("both pods are on %s", pods[0].Spec.NodeName)
	}
	first, second := pods[0].Name, pods[1].Name
	for what, f := range map[string]func(*testing.T){
		"logs": func(t *testing.T) {
			if got := c.kubectl(t, "", "logs", first); got != "serving "+first+"\n" {
				t.Errorf("the log is %q", got)
			}
		},
		"exec": func(t *testing.T) {
			if got := c.kubectl(t, "to the pod", "exec", "-i", first, "--", "sh", "-c", "cat; hostname"); got != "to the pod"+first+"\n" {
				t.Errorf("exec printed %q", got)
			}
			out, err := c.command(t, "exec", first, "--", "sh", "-c", "exit 7").CombinedOutput()
			if !strings.Contains(string(out), "exit code 7") {
				t.Errorf("exec of what fails printed %q, %v", out, err)
			}
		},
		"port-forward": func(t *testing.T) { c.portForward(t, first) },
		"pod to pod": func(t *testing.T) {
			for i, from := range []string{first, second} {
				to := pods[1-i]
				if got := c.kubectl(t, "", "exec", from, "--", "wget", "-T", "10", "-q", "-O-", "http://"+to.Status.PodIP+":8080/"); got != to.Name+"\n" {
					t.Errorf("from %s the other pod said %q", from, got)
				}
			}
		},
		"node to pod": func(t *testing.T) {
			for _, n := range c.nodes {
				for _, p := range pods {
					resp, err := n.get(t.Context(), "http://"+p.Status.PodIP+":8080/")
					if err != nil {
						t.Errorf("from %s to %s: %v", n.Name, p.Spec.NodeName, err)
						continue
					}
					_ = resp.Body.Close()
				}
			}
		},
	} {
		t.Run(what, f)
	}
	c.kubectl(t, "", "delete", "deployment", "web", "--timeout=60s")
	c.eventually(t, "the pods are gone", func(ctx context.Context) (bool, error) {
		list, err := c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		return err == nil && len(list.Items) == 0, err
	})
	for _, n := range c.nodes {
		service, _ := n.CRI(t)
		c.eventually(t, "the sandboxes are stopped", func(ctx context.Context) (bool, error) {
			containers, err := service.ListContainers(ctx, nil)
			return err == nil && len(containers) == 0, err
		})
	}
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)

// forwarded has a pod's port 8080 at a URL of this machine, for f.
func (c *cluster) forwarded(t *testing.T, pod string, f func(url string)) {
	t.Helper()
	cmd := c.command(t, "port-forward", "pod/"+pod, ":8080", "--address=127.0.0.1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	at := forwarding.FindStringSubmatch(line)
	if at == nil {
		t.Fatalf("port-forward printed %q, %v", line, err)
	}
	f("http://" + at[1])
}

func (c *cluster) portForward(t *testing.T, pod string) {
	c.forwarded(t, pod, func(url string) {
		for range 2 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if string(body) != pod+"\n" {
				t.Errorf("through the port came %q, %v", body, err)
			}
		}
	})
}

// lives are the ids of containers that run, and how often they did.
func lives(pods []corev1.Pod) map[string]string {
	all := map[string]string{}
	for _, p := range pods {
		for _, s := range p.Status.ContainerStatuses {
			all[p.Name+"/"+s.Name] = fmt.Sprint(s.ContainerID, " ", s.RestartCount)
		}
	}
	return all
}

// TestRestarts: agent and runtime are killed and come back; pods run on, and what happened to them meanwhile is done afterwards.
func TestRestarts(t *testing.T) {
	c := newCluster(t, "one")
	n := c.nodes[0]
	c.kubectl(t, fmt.Sprintf(web, 3), "apply", "-f", "-")
	before := c.ready(t, "web", 3)
	serving := func() {
		t.Helper()
		for _, p := range before {
			resp, err := n.get(t.Context(), "http://"+p.Status.PodIP+":8080/")
			if err != nil {
				t.Fatalf("%s: %v", p.Name, err)
			}
			_ = resp.Body.Close()
		}
	}
	same := func(when string) {
		t.Helper()
		if diff := cmp.Diff(lives(before), lives(c.ready(t, "web", 3))); diff != "" {
			t.Fatalf("%s: before -, after +:\n%s", when, diff)
		}
	}
	n.kill(t)
	serving()
	n.start(t)
	// It has come so far when it runs a pod that it had not heard of.
	c.kubectl(t, "", "run", "after", "--image="+noderuntime.BusyboxImage, "--labels=app=after", "--", "sleep", "3600")
	c.ready(t, "after", 1)
	same("the agent was killed")

	n.StopRuntime(t, syscall.SIGKILL)
	serving()
	n.StartRuntime(t)
	c.kubectl(t, "", "run", "later", "--image="+noderuntime.BusyboxImage, "--labels=app=later", "--", "sleep", "3600")
	c.ready(t, "later", 1)
	same("the runtime was killed")
	serving()

	n.kill(t)
	c.kubectl(t, "", "delete", "pod", "later", "--wait=false", "--grace-period=1")
	n.start(t)
	c.eventually(t, "a pod that was deleted while the agent was away is gone", func(ctx context.Context) (bool, error) {
		_, err := c.CoreV1().Pods("default").Get(ctx, "later", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	same("the agent was killed again")
}
