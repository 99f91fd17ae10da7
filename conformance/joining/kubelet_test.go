package joining

import (
	"context"
	"net"
	"os/exec"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// patience is for a busy machine.
const patience = 3 * time.Minute

// newServer starts a server that machines on the fabric reach, with controllers but no scheduler.
func newServer(t *testing.T, fabric *noderuntime.Fabric) *harness.Server {
	t.Helper()
	rowlock := harness.SQLite.NewCluster(t)
	rowlock.Within = fabric.Enter()
	server := rowlock.NewServer(t, "--controllers=*", "--advertise-address="+noderuntime.Gateway, "--tls-san="+noderuntime.Gateway)
	fabric.Forward(t, server.Addr())
	server.Start(t)
	return server
}

// at is the server's address on the fabric.
func at(t *testing.T, server *harness.Server) string {
	t.Helper()
	_, port, err := net.SplitHostPort(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return "https://" + net.JoinHostPort(noderuntime.Gateway, port)
}

// newKubelet starts a stock kubelet with a token on a machine of this name, whose pods have addresses of the range.
func newKubelet(t *testing.T, fabric *noderuntime.Fabric, server *harness.Server, name, pods string) (*noderuntime.Machine, *harness.Process) {
	t.Helper()
	m := fabric.NewMachine(t, name)
	m.Containerd(t)
	m.Bridge(t, pods)
	bootstrap, err := exec.CommandContext(t.Context(), harness.Rowlock(t), "token", "create", "-o", "kubeconfig", "--kubeconfig", server.Kubeconfig,
		"--server", at(t, server)).Output()
	if err != nil {
		t.Fatal(err)
	}
	// How full the disk is that tests run on is not the nodes' matter.
	return m, m.Kubelet(t, bootstrap, "evictionHard: {memory.available: 100Mi}\n")
}

// TestStockKubelet: a kubelet with the token's kubeconfig gets its certificates by itself, registers and is ready, and the server reaches it,
// each knowing the other by the cluster's authority.
func TestStockKubelet(t *testing.T) {
	noderuntime.Require(t)
	fabric := noderuntime.NewFabric(t)
	fabric.Registry.Add(t, noderuntime.Pause(t))
	server := newServer(t, fabric)
	client := server.Client(t)
	_, process := newKubelet(t, fabric, server, "stock", "10.244.9.0/24")
	eventually := func(what string, f func(context.Context) (bool, error)) {
		t.Helper()
		if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, f); err != nil {
			t.Fatalf("%s: %v\n%s", what, err, process.Tail(60))
		}
	}
	eventually("its client certificate", func(ctx context.Context) (bool, error) {
		all, err := client.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, r := range all.Items {
			if r.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName && len(r.Status.Certificate) > 0 {
				return true, nil
			}
		}
		return false, nil
	})
	eventually("it is ready", func(ctx context.Context) (bool, error) {
		node, err := client.CoreV1().Nodes().Get(ctx, "stock", metav1.GetOptions{})
		if err != nil {
			return false, nil //nolint:nilerr // it has not registered yet
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	})
	var last error
	if err := wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		var body []byte
		body, last = client.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/stock/proxy/healthz").DoRaw(ctx)
		return last == nil && string(body) == "ok", nil
	}); err != nil {
		t.Errorf("the server does not reach it: %v\n%s", last, process.Tail(40))
	}
}
