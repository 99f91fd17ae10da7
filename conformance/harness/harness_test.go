package harness_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// TestServer walks a server of each target through its life: what was written before a stop or a kill is there after.
func TestServer(t *testing.T) {
	t.Parallel()
	harness.Each(t, func(t *testing.T, target harness.Target) {
		t.Parallel()
		server := target.NewCluster(t).StartServer(t)
		client := server.Client(t)
		version, err := client.Discovery().ServerVersion()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(version.GitVersion, "v1.36.") {
			t.Errorf("the server says it is Kubernetes %s", version.GitVersion)
		}
		for _, end := range []struct {
			name string
			end  func(testing.TB)
		}{{"stop", server.Stop}, {"kill", server.Kill}} {
			harness.NewNamespace(t, client, end.name)
			end.end(t)
			server.Start(t)
			if _, err := client.CoreV1().Namespaces().Get(t.Context(), end.name, metav1.GetOptions{}); err != nil {
				t.Errorf("after the %s: %v", end.name, err)
			}
		}
	})
}
