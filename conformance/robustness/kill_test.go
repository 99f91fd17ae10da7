package robustness_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/load"
)

const namespace = "robustness"

// TestKill kills the server again and again under load: every acknowledged write is there, and no resourceVersion is
// given out twice.
func TestKill(t *testing.T) {
	t.Parallel()
	harness.Each(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t)
		harness.NewNamespace(t, server.Client(t), namespace)
		writes := load.Start(t, server.Client(t), load.Options{Namespace: namespace, Workers: 16})
		for range 4 {
			writes.AwaitMore(t, 200)
			server.Kill(t)
			server.Start(t)
		}
		writes.AwaitMore(t, 200)
		writes.Stop()
		writes.Verify(t)
	})
}

// TestIdentity shows that a restart keeps what clients hold on to: the CA, tokens, UIDs and cluster IPs.
func TestIdentity(t *testing.T) {
	t.Parallel()
	harness.Each(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t)
		client := server.Client(t) // with the CA and the credentials of the first start
		harness.NewNamespace(t, client, namespace)
		services := client.CoreV1().Services(namespace)
		before, err := services.Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "s"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		token := serviceAccountToken(t, client, namespace)
		for _, end := range []func(testing.TB){server.Stop, server.Kill} {
			end(t)
			server.Start(t)
			after, err := services.Get(t.Context(), "s", metav1.GetOptions{})
			if err != nil {
				t.Fatalf("the old credentials, after a restart: %v", err)
			}
			if after.UID != before.UID || after.Spec.ClusterIP != before.Spec.ClusterIP {
				t.Errorf("the service is another one: %s at %s, was %s at %s", after.UID, after.Spec.ClusterIP, before.UID, before.Spec.ClusterIP)
			}
			if who := whoIs(t, client, token); who != "system:serviceaccount:"+namespace+":default" {
				t.Errorf("the old token is of %q", who)
			}
		}
	})
}
