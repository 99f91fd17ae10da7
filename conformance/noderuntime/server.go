package noderuntime

import (
	"context"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// StartServer starts a server on the fabric, with controllers and scheduler, that lets machines join. Further flags may follow. It is
// also where its kubeconfig says on this machine.
func (f *Fabric) StartServer(t testing.TB, flags ...string) *harness.Server {
	t.Helper()
	cluster := harness.SQLite.NewCluster(t)
	cluster.Within = f.Enter()
	server := cluster.NewServer(t, append([]string{
		"--controllers=*,bootstrap-signer-controller,token-cleaner-controller", "--scheduler", "--enable-bootstrap-token-auth",
		"--allocate-node-cidrs", "--cluster-cidr=10.244.0.0/16", "--advertise-address=" + Gateway, "--tls-san=" + Gateway,
	}, flags...)...)
	f.Forward(t, server.Addr())
	server.Start(t)
	return server
}

// JoinFlags makes a token and returns the arguments that an agent joins a server of the fabric with.
func JoinFlags(t testing.TB, server *harness.Server) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), harness.Rowlock(t), "token", "create", "-o=token", "--kubeconfig="+server.Kubeconfig)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	_, port, err := net.SplitHostPort(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return []string{"agent", "--server=https://" + net.JoinHostPort(Gateway, port), "--token=" + strings.TrimSpace(string(out))}
}

// StartAgent starts the agent, which Install has put there, with these arguments.
func (m *Machine) StartAgent(t testing.TB, args ...string) *harness.Process {
	t.Helper()
	// How full the disk is that tests run on is not the nodes' matter.
	return m.Start(t, "/opt/bin/rowlock", append(args[:len(args):len(args)], "--eviction-hard=memory.available<100Mi", "--image-gc-high-threshold=100")...)
}

// Route makes pods of these machines, which are nodes of the same names, known where the server is: as on a network whose routers know
// them. It waits until the nodes have addresses for pods.
func (f *Fabric) Route(t testing.TB, client kubernetes.Interface, machines ...*Machine) {
	t.Helper()
	for _, m := range machines {
		var node *corev1.Node
		err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
			var err error
			node, err = client.CoreV1().Nodes().Get(ctx, m.Name, metav1.GetOptions{})
			return err == nil && node.Spec.PodCIDR != "", ignoreNotFound(err)
		})
		if err != nil {
			t.Fatalf("addresses for pods on %s: %v", m.Name, err)
		}
		f.ip(t, "route", "add", node.Spec.PodCIDR, "via", m.Address)
	}
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
