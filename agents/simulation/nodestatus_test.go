package simulation

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestNodeStatusResources(t *testing.T) {
	t.Parallel()
	list := func(pairs ...string) corev1.ResourceList {
		all := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			all[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return all
	}
	standard := list("cpu", "8", "memory", "32Gi", "pods", "110", "ephemeral-storage", "100Gi")
	for _, tc := range []struct {
		name                          string
		capacity, allocatable         corev1.ResourceList
		wantCapacity, wantAllocatable corev1.ResourceList
	}{
		{"nothing is said", nil, nil, standard, standard},
		{"a size", list("cpu", "64", "pods", "500"), list("cpu", "60", "pods", "500"), list("cpu", "64", "pods", "500"), list("cpu", "60", "pods", "500")},
		{"a resource is added", list("cpu", "8", "example.com/a", "5"), list("cpu", "7"), list("cpu", "8", "example.com/a", "5"), list("cpu", "7", "example.com/a", "5")},
		{"a resource is taken away", list("cpu", "8"), list("cpu", "7", "example.com/a", "5"), list("cpu", "8"), list("cpu", "7")},
	} {
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n"},
			Status:     corev1.NodeStatus{Capacity: tc.capacity, Allocatable: tc.allocatable},
		}
		s := nodeStatus(node, "v1", first)
		if diff := cmp.Diff(tc.wantCapacity, s.Capacity); diff != "" {
			t.Errorf("%s: capacity (-want +got):\n%s", tc.name, diff)
		}
		if diff := cmp.Diff(tc.wantAllocatable, s.Allocatable); diff != "" {
			t.Errorf("%s: allocatable (-want +got):\n%s", tc.name, diff)
		}
	}
}
