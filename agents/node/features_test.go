package node

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDeclaredFeatures: the node says what a kubelet of this version says, and runs a pod that needs it.
func TestDeclaredFeatures(t *testing.T) {
	p := pod("restarts")
	never := corev1.ContainerRestartPolicyNever
	p.Spec.Containers[0].RestartPolicy = &never
	p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{1}},
	}}
	a := start(t, p)
	want := []string{
		"ExtendWebSocketsToKubelet", "InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers", "RestartAllContainersOnContainerExits",
	}
	a.until("the node", func() bool {
		node, err := a.client.CoreV1().Nodes().Get(context.Background(), "n1", metav1.GetOptions{})
		if err != nil || len(node.Status.Conditions) == 0 {
			return false
		}
		if d := cmp.Diff(want, node.Status.DeclaredFeatures); d != "" {
			t.Fatal(d)
		}
		return true
	})
	a.until("the pod runs", func() bool { return a.pod("restarts").Status.Phase == corev1.PodRunning })
}
