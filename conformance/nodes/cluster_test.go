package nodes

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// patience is for a busy machine.
const patience = 2 * time.Minute

// cluster is a server with controllers and scheduler on a fabric, and agents on machines there.
type cluster struct {
	kubernetes.Interface
	fabric *noderuntime.Fabric
	server *harness.Server
	nodes  []*node
}

// node is a machine with an agent.
type node struct {
	*noderuntime.Machine
	agent *harness.Process
	join  []string // the agent's arguments
}

// newCluster starts a server, joins machines of these names to it, and waits until they take pods.
func newCluster(t *testing.T, names ...string) *cluster {
	t.Helper()
	c := newServer(t)
	for _, name := range names {
		c.add(t, name)
	}
	harness.AwaitNodes(t, c, len(names))
	c.eventually(t, "the service account", func(ctx context.Context) (bool, error) {
		_, err := c.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	return c
}

// newServer starts a server with controllers and scheduler, and with these flags.
func newServer(t *testing.T, flags ...string) *cluster {
	t.Helper()
	noderuntime.Require(t)
	c := &cluster{fabric: noderuntime.NewFabric(t)}
	for _, image := range []*noderuntime.Image{noderuntime.Pause(t), noderuntime.Busybox(t)} {
		c.fabric.Registry.Add(t, image)
	}
	c.server = c.fabric.StartServer(t, flags...)
	c.Interface = c.server.Client(t)
	return c
}

// add joins a machine.
func (c *cluster) add(t *testing.T, name string) *node {
	t.Helper()
	n := c.prepare(t, name)
	n.start(t)
	c.nodes = append(c.nodes, n)
	return n
}

// prepare makes a machine that may join.
func (c *cluster) prepare(t *testing.T, name string) *node {
	t.Helper()
	n := &node{Machine: c.fabric.NewMachine(t, name)}
	n.Runtime(t, noderuntime.Chosen(t))
	n.Install(t, harness.Rowlock(t))
	n.join = noderuntime.JoinFlags(t, c.server)
	return n
}

func (n *node) start(t *testing.T) {
	t.Helper()
	n.agent = n.StartAgent(t, n.join...)
}

// kill ends the agent at once.
func (n *node) kill(t *testing.T) {
	t.Helper()
	if n.agent.Ended() {
		t.Fatalf("the agent had ended before it was killed:\n%s", n.agent.Tail(40))
	}
	_ = n.agent.Stop(syscall.SIGKILL)
}

func (c *cluster) eventually(t *testing.T, what string, f func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, f); err != nil {
		for _, n := range c.nodes {
			t.Logf("the agent on %s:\n%s", n.Name, n.agent.Tail(30))
		}
		t.Fatalf("%s: %v\n%s", what, err, c.kubectlMay(t, "get", "pods,events", "-A", "-o", "wide"))
	}
}

func (c *cluster) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), harness.Kubectl(t), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.server.Kubeconfig, "HOME="+filepath.Dir(c.server.Kubeconfig))
	return cmd
}

// kubectl runs kubectl, which must succeed, and returns what it printed.
func (c *cluster) kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := c.command(t, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s%s\n%s", strings.Join(args, " "), err, out, stderr.String(), c.kubectlMay(t, "get", "pods,events", "-A", "-o", "wide"))
	}
	return string(out)
}

// kubectlMay runs kubectl and returns whatever it printed.
func (c *cluster) kubectlMay(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.command(t, args...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v\n", out, err)
	}
	return string(out)
}

// pods are those with a label app of the value, of which so many are ready.
func (c *cluster) ready(t *testing.T, app string, replicas int) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	c.eventually(t, app+" is ready", func(ctx context.Context) (bool, error) {
		list, err := c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			return false, err
		}
		pods = list.Items
		ready := 0
		for _, p := range pods {
			for _, condition := range p.Status.Conditions {
				if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
					ready++
				}
			}
		}
		return ready == replicas && len(pods) == replicas, nil
	})
	return pods
}

// get fetches from a pod's address as something on a machine would.
func (n *node) get(ctx context.Context, url string) (*http.Response, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return n.Dial(ctx, address) },
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}
