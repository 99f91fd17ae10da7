package load

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

// TestFaults shows that a load finds the faults it is there for.
func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		verb string
		// answer takes the place of the server for the verb.
		answer func(tracker k8stesting.ObjectTracker, action k8stesting.Action) (runtime.Object, error)
		fault  string
	}{
		{
			name: "lost create",
			verb: "create",
			answer: func(_ k8stesting.ObjectTracker, action k8stesting.Action) (runtime.Object, error) {
				return action.(k8stesting.CreateAction).GetObject(), nil
			},
			fault: `"load-w00-k00" not found`,
		},
		{
			name: "lost delete",
			verb: "delete",
			answer: func(k8stesting.ObjectTracker, k8stesting.Action) (runtime.Object, error) {
				return nil, nil
			},
			fault: "already exists",
		},
		{
			name: "wrong state after an unknown outcome",
			verb: "update",
			answer: func(tracker k8stesting.ObjectTracker, action k8stesting.Action) (runtime.Object, error) {
				cm := action.(k8stesting.UpdateAction).GetObject().(*corev1.ConfigMap).DeepCopy()
				cm.Data[field] = "-1"
				return nil, errors.Join(errors.New("connection reset"),
					tracker.Update(action.GetResource(), cm, action.GetNamespace()))
			},
			fault: "as write -1 left it",
		},
		{
			name: "repeated version",
			verb: "create",
			answer: func(tracker k8stesting.ObjectTracker, action k8stesting.Action) (runtime.Object, error) {
				cm := action.(k8stesting.CreateAction).GetObject().(*corev1.ConfigMap)
				cm.ResourceVersion = "7"
				return cm, tracker.Create(action.GetResource(), cm, action.GetNamespace())
			},
			fault: "resourceVersion 7 was given to",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset()
			client.PrependReactor(tt.verb, "configmaps", func(action k8stesting.Action) (bool, runtime.Object, error) {
				obj, err := tt.answer(client.Tracker(), action)
				return true, obj, err
			})
			l := Start(t, client, Options{Namespace: "ns", Workers: 1, Keys: 1})
			l.await(t, func() bool { return len(l.faults) > 0 })
			l.Stop()
			if got := l.failed().Error(); !strings.Contains(got, tt.fault) {
				t.Errorf("the load reported %q, expected %q", got, tt.fault)
			}
		})
	}
}

// TestNoFault runs a load against a server without faults, and one that fails now and then.
func TestNoFault(t *testing.T) {
	t.Parallel()
	for _, every := range []int{0, 3} {
		client := fake.NewClientset()
		n := 0
		client.PrependReactor("*", "configmaps", func(k8stesting.Action) (bool, runtime.Object, error) {
			n++ // the fake client has a lock around its reactors
			if every > 0 && n%every == 0 {
				return true, nil, errors.New("connection refused")
			}
			return false, nil, nil
		})
		l := Start(t, client, Options{Namespace: "ns", Workers: 4})
		l.AwaitMore(t, 500)
		l.Stop()
		client.ReactionChain = client.ReactionChain[1:]
		l.Verify(t)
	}
}
