package cost

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// namespace is that of the pods.
const namespace = "cost"

// recorded is what the server writes down of nodes' requests: each once, watches when they begin.
const recorded = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:nodes"]}
- {level: None}
`

// cluster is a server on a fabric.
type cluster struct {
	kubernetes.Interface
	fabric *noderuntime.Fabric
	server *harness.Server
	audit  string // the file with nodes' requests
	agent  string // the binary, in a file of its own: what processes share of one counts half
}

func newCluster(b *testing.B) *cluster {
	b.Helper()
	c := &cluster{fabric: noderuntime.NewFabric(b), audit: filepath.Join(b.TempDir(), "audit.log"), agent: filepath.Join(b.TempDir(), "rowlock")}
	c.fabric.Registry.Add(b, noderuntime.Pause(b))
	policy := filepath.Join(filepath.Dir(c.audit), "policy.yaml")
	if err := os.WriteFile(policy, []byte(recorded), 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.CommandContext(b.Context(), "cp", harness.Rowlock(b), c.agent).CombinedOutput(); err != nil {
		b.Fatalf("copy the binary: %v\n%s", err, out)
	}
	rowlock := harness.SQLite.NewCluster(b)
	rowlock.Within = c.fabric.Enter()
	c.server = rowlock.NewServer(b,
		"--controllers=*,bootstrap-signer-controller,token-cleaner-controller", "--enable-bootstrap-token-auth",
		"--advertise-address="+noderuntime.Gateway, "--tls-san="+noderuntime.Gateway, "--audit-policy-file="+policy, "--audit-log-path="+c.audit)
	c.fabric.Forward(b, c.server.Addr())
	c.server.Start(b)
	c.Interface = c.server.Client(b)
	harness.NewNamespace(b, c, namespace)
	return c
}

// node is a machine with what makes it a node.
type node struct {
	*cluster
	*noderuntime.Machine
	process *harness.Process
}

// newNode joins a machine of the name. Both kinds of nodes have the same network for pods, and do not look at how full the disk is on
// which benchmarks run; all else is as it is when nothing is said.
func (c *cluster) newNode(b *testing.B, setup, name string) *node {
	b.Helper()
	n := &node{cluster: c, Machine: c.fabric.NewMachine(b, name)}
	n.Containerd(b)
	n.Bridge(b, "10.244.9.0/24")
	switch setup {
	case "agent":
		harness.Cold(b, c.agent)
		n.Install(b, c.agent)
		n.process = n.Start(b, "/opt/bin/rowlock", "agent", "--server="+c.url(b), "--token="+c.token(b, "token"),
			"--eviction-hard=memory.available<100Mi", "--image-gc-high-threshold=100")
	case "kubelet":
		harness.Cold(b, harness.Kubelet(b))
		n.process = n.Kubelet(b, []byte(c.token(b, "kubeconfig")), "evictionHard: {memory.available: 100Mi}\nimageGCHighThresholdPercent: 100\n")
	default:
		b.Fatalf("-setups: there is no %q", setup)
	}
	b.Cleanup(func() { // or it would be a node that is not ready
		_ = n.process.Stop(terminate)
		if err := c.CoreV1().Nodes().Delete(context.WithoutCancel(b.Context()), name, metav1.DeleteOptions{}); err != nil {
			b.Logf("delete the node: %v", err)
		}
	})
	return n
}

// url is the server's, from machines.
func (c *cluster) url(b *testing.B) string {
	_, port, err := net.SplitHostPort(c.server.Addr())
	if err != nil {
		b.Fatal(err)
	}
	return "https://" + net.JoinHostPort(noderuntime.Gateway, port)
}

func (c *cluster) token(b *testing.B, form string) string {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), harness.Rowlock(b), "token", "create", "-o="+form, "--kubeconfig="+c.server.Kubeconfig, "--server="+c.url(b))
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return strings.TrimSpace(string(out))
}
