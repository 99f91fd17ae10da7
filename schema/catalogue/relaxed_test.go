package catalogue

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/apis/coordination"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/utils/ptr"
)

// TestRelaxed: who holds a Lease is on disk before anybody is told, its renewals and Events need not be.
func TestRelaxed(t *testing.T) {
	t.Parallel()
	held := func(by string, transitions int32) *coordination.Lease {
		at := metav1.NowMicro()
		return &coordination.Lease{Spec: coordination.LeaseSpec{HolderIdentity: &by, LeaseTransitions: &transitions, RenewTime: &at}}
	}
	ending := held("a", 1)
	ending.DeletionTimestamp = ptr.To(metav1.Now())
	leases, events := schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}, schema.GroupResource{Resource: "events"}
	for _, tt := range []struct {
		name     string
		resource schema.GroupResource
		obj, old runtime.Object
		want     bool
	}{
		{"renewed", leases, held("a", 1), held("a", 1), true},
		{"nobody's, as before", leases, &coordination.Lease{}, &coordination.Lease{}, true},
		{"taken", leases, held("b", 2), held("a", 1), false},
		{"given back", leases, held("", 1), held("a", 1), false},
		{"taken from nobody", leases, held("b", 0), &coordination.Lease{}, false},
		{"taken by the one that had it", leases, held("a", 2), held("a", 1), false},
		{"created", leases, held("a", 0), nil, false},
		{"deleted", leases, nil, held("a", 1), false},
		{"about to be deleted", leases, ending, held("a", 1), false},
		{"Event", events, &core.Event{}, nil, true},
		{"Event deleted", events, nil, &core.Event{}, true},
	} {
		if got := relaxed(tt.resource)(tt.obj, tt.old); got != tt.want {
			t.Errorf("%s: relaxed is %v", tt.name, got)
		}
	}
	if relaxed(schema.GroupResource{Resource: "pods"}) != nil {
		t.Error("Pods may be acknowledged before they are on disk")
	}
}
