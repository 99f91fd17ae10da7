package outside_test

import (
	"context"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// TestElection: what is outside waits while a server acts, and acts when that server is gone.
func TestElection(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		acting := cluster.StartServer(t, "--controllers=*", "--scheduler=true")
		server := cluster.StartServer(t) // which only serves
		identity := cluster.ExportIdentity(t, server)
		e := env{server.Client(t), server.Config(t), identity}
		inside := e.holders(t)

		started := cluster.StartOutside(t, harness.Subcommands(t), identity)
		cluster.Simulate(t, server.Kubeconfig, 2)
		until(t, "candidates", says(started.Logs, "attempting to acquire leader lease"))
		e.work(t, "before")
		if after := e.holders(t); after != inside {
			t.Errorf("the leases went from %v to %v while their holder was there", inside, after)
		}
		for _, log := range started.Logs {
			if acts, err := says([]string{log}, "successfully acquired lease")(t.Context()); acts || err != nil {
				t.Errorf("%s acts beside the server: %v", log, err)
			}
		}

		acting.Kill(t)
		until(t, "others that act", says(started.Logs, "successfully acquired lease"))
		e.work(t, "after")
		for i, holder := range e.holders(t) {
			if holder == inside[i] {
				t.Errorf("%s still holds its lease", holder)
			}
		}
	}, harness.OnPostgres)
}

// holders are those of the two leases.
func (e env) holders(t *testing.T) (holders [2]string) {
	t.Helper()
	for i, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		until(t, name, func(ctx context.Context) (bool, error) {
			lease, err := e.CoordinationV1().Leases("kube-system").Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			holders[i] = ptr.Deref(lease.Spec.HolderIdentity, "")
			return holders[i] != "", nil
		})
	}
	return holders
}

// work has a deployment done in a namespace of its own.
func (e env) work(t *testing.T, namespace string) {
	t.Helper()
	if _, err := e.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.account(t, namespace)
	e.deployment(t, namespace)
}

// says tells whether all logs have a text, however it is written.
func says(logs []string, text string) func(context.Context) (bool, error) {
	return func(context.Context) (bool, error) {
		for _, log := range logs {
			content, err := os.ReadFile(log)
			if err != nil {
				return false, err
			}
			if !strings.Contains(strings.ToLower(string(content)), text) {
				return false, nil
			}
		}
		return true, nil
	}
}
