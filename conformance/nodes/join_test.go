package nodes

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// TestJoin: a machine with a token becomes a node, says what it is, and stays the same node when its agent comes again without the
// token.
func TestJoin(t *testing.T) {
	c := newServer(t)
	n := c.add(t, "one")
	var joined *corev1.Node
	c.eventually(t, "the node is there", func(ctx context.Context) (bool, error) {
		var err error
		joined, err = c.CoreV1().Nodes().Get(ctx, "one", metav1.GetOptions{})
		return err == nil && len(joined.Spec.PodCIDRs) > 0 && len(joined.Status.Conditions) > 0, nil
	})
	want := map[noderuntime.Kind]string{noderuntime.Containerd: "containerd://2.", noderuntime.OldContainerd: "containerd://1.6.", noderuntime.CRIO: "cri-o://1."}
	if got := joined.Status.NodeInfo.ContainerRuntimeVersion; !strings.HasPrefix(got, want[noderuntime.Chosen(t)]) {
		t.Errorf("the runtime is %s", got)
	}
	for _, a := range joined.Status.Addresses {
		if a.Type == corev1.NodeInternalIP && a.Address != n.Address {
			t.Errorf("the address is %s, want %s", a.Address, n.Address)
		}
	}
	n.kill(t)
	n.join = []string{"agent"}
	if err := c.CoreV1().Nodes().Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	c.eventually(t, "the node is there again", func(ctx context.Context) (bool, error) {
		again, err := c.CoreV1().Nodes().Get(ctx, "one", metav1.GetOptions{})
		return err == nil && again.UID != joined.UID, nil
	})
}
