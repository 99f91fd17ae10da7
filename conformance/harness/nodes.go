package harness

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// AwaitNodes waits until a cluster has so many nodes that pods may be bound to.
func AwaitNodes(t testing.TB, client kubernetes.Interface, nodes int) {
	t.Helper()
	deadline := time.Now().Add(readyTimeout)
	for {
		list, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		free, seen := 0, ""
		for _, node := range list.Items {
			if usable(&node) {
				free++
			}
			seen += fmt.Sprintf("\n%s: %v %v", node.Name, node.Spec.Taints, node.Status.Conditions)
		}
		if free >= nodes {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d nodes may be used after %v:%s", free, nodes, readyTimeout, seen)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func usable(node *corev1.Node) bool {
	if len(node.Spec.Taints) > 0 {
		return false
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
