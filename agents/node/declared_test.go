package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDeclared: a node has all that is on by default in Kubernetes 1.36, or pods that need it are never bound to one.
func TestDeclared(t *testing.T) {
	t.Parallel()
	want := []string{
		"ExtendWebSocketsToKubelet", "InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers",
		"RestartAllContainersOnContainerExits",
	}
	if diff := cmp.Diff(want, declared()); diff != "" {
		t.Errorf("declared features (-want +got):\n%s", diff)
	}
}
