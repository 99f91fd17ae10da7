package server_test

import (
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// TestTokenFileOpensNoHostedCluster: a file of tokens may put somebody into system:masters, which would make them the
// administrator of all tenants.
func TestTokenFileOpensNoHostedCluster(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{
		Clusters: []string{"a"}, Plane: func(c *controlplane.Config) { c.HostedTokens = false },
	})
	if _, err := s.Client(t, servertest.Default).CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("at the root: %v", err)
	}
	if _, err := s.Client(t, "a").CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("in a hosted cluster: %v, want Unauthorized", err)
	}
	own := servertest.NewClient(t, s.WithCertificate(t, "a", "a", pki.Admin()))
	if _, err := own.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("the hosted cluster's own certificate: %v", err)
	}
}
