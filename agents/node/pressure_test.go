package node

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/agents/node/eviction"
)

// TestEviction: a pod whose volume grows over its limit is evicted, and so are others when the node runs out of something; then it takes none.
func TestEviction(t *testing.T) {
	big := pod("big")
	size := resource.MustParse("1Mi")
	big.Spec.Volumes[0].EmptyDir.SizeLimit = &size
	a := start(t, big, pod("other"))
	is := func(name string, phase corev1.PodPhase) func() bool {
		return func() bool { p := a.pod(name); return p != nil && p.Status.Phase == phase }
	}
	a.until("two pods that run", func() bool { return is("big", corev1.PodRunning)() && is("other", corev1.PodRunning)() })
	path := filepath.Join(a.cfg.DataDir, "pods", "uid-big", "volumes", "kubernetes.io~empty-dir", "v", "file")
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	a.stop()
	a.cfg.Eviction = eviction.Policy{Limits: true, Transition: time.Minute}
	a.run()
	a.until("the end of the pod that has too much", is("big", corev1.PodFailed))
	if got := a.pod("big").Status; got.Reason != "Evicted" || got.Message != `Usage of EmptyDir volume "v" exceeds the limit "1Mi". ` {
		t.Errorf("%s: %s", got.Reason, got.Message)
	}
	if !is("other", corev1.PodRunning)() {
		t.Errorf("the other pod: %+v", a.pod("other").Status)
	}

	a.stop()
	thresholds, err := eviction.Parse(map[string]string{"pid.available": "1000G"}, nil, nil, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	a.cfg.Eviction.Thresholds = thresholds
	a.run()
	a.until("the end of the other pod", is("other", corev1.PodFailed))
	got := a.pod("other").Status
	i := slices.IndexFunc(got.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget })
	if got.Reason != "Evicted" || i < 0 || got.Conditions[i].Reason != corev1.PodReasonTerminationByKubelet || got.Conditions[i].Message != got.Message {
		t.Errorf("evicted: %+v", got)
	}
	a.until("a node under pressure", func() bool {
		node, err := a.client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		return err == nil && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodePIDPressure && c.Status == corev1.ConditionTrue && c.Reason == "KubeletHasInsufficientPID"
		})
	})
	if _, err := a.client.CoreV1().Pods("default").Create(context.Background(), pod("late"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	a.until("a pod that is refused", is("late", corev1.PodFailed))
	if got := a.pod("late").Status; got.Reason != "Evicted" || got.Message != "Pod was rejected: The node had condition: [PIDPressure]. " {
		t.Errorf("%s: %s", got.Reason, got.Message)
	}
}
