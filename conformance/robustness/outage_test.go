package robustness_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// outage is longer than a Lease and than most patience of clients.
const outage = 20 * time.Second

// linesOfOutage bounds what the server may log about one: forty loops, each of which notices.
const linesOfOutage = 400

// TestLoopsOutliveAnOutage takes the database away from a server that acts, for longer than it may act without its Leases. The loops
// go on by themselves when it is back, and the log can be read.
func TestLoopsOutliveAnOutage(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		server := cluster.StartServer(t, "--controllers=*", "--scheduler")
		client := server.Client(t)
		harness.NewNamespace(t, client, namespace)
		labels := map[string]string{"app": "web"}
		_, err := client.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec: appsv1.DeploymentSpec{
				Replicas: ptr.To[int32](2),
				Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: labels},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "image"}}},
				},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		awaitPods(t, client, 2)
		before := logged(t, server)

		cluster.Postgres.Stop(t)
		expectUnavailable(t, client)
		time.Sleep(outage)
		cluster.Postgres.Start(t)
		server.AwaitReady(t)
		if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			_, err := client.AppsV1().Deployments(namespace).Patch(ctx, "web", "application/merge-patch+json", []byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{})
			return err == nil, nil
		}); err != nil {
			t.Fatalf("writing after the outage: %v", err)
		}
		awaitPods(t, client, 5)

		log := logged(t, server)[len(before):]
		if n := strings.Count(log, "\n"); n > linesOfOutage {
			t.Errorf("%d lines about an outage of %v, want at most %d", n, outage, linesOfOutage)
		}
		if strings.Contains(log, `panicked"`) {
			t.Error("something panicked")
		}
		parts, err := client.CoreV1().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").DoRaw(t.Context())
		if err != nil || bytes.Contains(parts, []byte("[!]")) {
			t.Errorf("after the outage: %v\n%s", err, parts)
		}
	}, harness.OnPostgres)
}

// awaitPods waits until the namespace has so many pods, and no more.
func awaitPods(t *testing.T, client kubernetes.Interface, want int) {
	t.Helper()
	got := 0
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		got = len(pods.Items)
		return err == nil && got == want, nil
	}); err != nil {
		t.Fatalf("%d pods, want %d: %v", got, want, err)
	}
}

func logged(t *testing.T, server *harness.Server) string {
	t.Helper()
	log, err := os.ReadFile(server.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}
