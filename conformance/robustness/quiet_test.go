package robustness_test

import (
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// deploy makes pods and waits until they are there; bound: until they are available.
func deploy(t *testing.T, client kubernetes.Interface, name string, bound bool) {
	t.Helper()
	labels := map[string]string{"app": name}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To[int32](20), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		},
	}}
	if _, err := client.AppsV1().Deployments(name).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		now, err := client.AppsV1().Deployments(name).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if now.Status.Replicas == 20 && (!bound || now.Status.AvailableReplicas == 20) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a minute: %+v", now.Status)
		}
	}
}

// TestQuiet starts a server, uses it and stops it, with what acts on the cluster and without: its log has nothing that an operator would have to look into.
func TestQuiet(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		flags := []string{"--controllers=*", "--scheduler"}
		if target == harness.SQLite {
			flags = append(flags, "--simulate-nodes=10")
		}
		for _, tt := range []struct {
			name  string
			flags []string
		}{{"first", nil}, {"second", nil}, {"agents", flags}} { // on an empty database, and on one with a past
			server := cluster.StartServer(t, tt.flags...)
			harness.NewNamespace(t, server.Client(t), tt.name)
			if tt.flags != nil {
				deploy(t, server.Client(t), tt.name, target == harness.SQLite)
			}
			server.Stop(t)
			log, err := os.ReadFile(server.Log)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.SplitSeq(string(log), "\n") {
				if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") {
					t.Error(line)
				}
			}
		}
	}, harness.SQLite, harness.OnPostgres)
}
