package server_test

import (
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// TestClusterThatOpensRefusesNobodyWhomItAllows: whoever sends the request that opens an idle cluster is judged by all of
// its roles, not by those that happen to be read by then.
func TestClusterThatOpensRefusesNobodyWhomItAllows(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Clusters: []string{"a"}, Idle: time.Millisecond})
	admin := s.Client(t, "a")
	may := func() error {
		_, err := servertest.NewClient(t, s.Config("a", servertest.AliceToken)).CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
		return err
	}
	must[any](t)(admin.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "alice"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"}},
	}, metav1.CreateOptions{}))
	await(t, "alice may", func() bool { return may() == nil })
	for range 3 {
		first, release, err := s.Clusters.Acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		release()
		await(t, "the cluster is opened anew", func() bool {
			now, release, err := s.Clusters.Acquire(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			if now == first {
				return false
			}
			if err := may(); err != nil {
				t.Errorf("at the first request: %v", err)
			}
			return true
		})
	}
}

// TestIssuerOfAClusterDoesNotPointToTheKeysOfAnother: whoever verifies a's tokens by what a says must not be led to the
// keys of the cluster at the root, and so believe its tokens.
func TestIssuerOfAClusterDoesNotPointToTheKeysOfAnother(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Clusters: []string{"a"}})
	keys := map[string]string{}
	for _, cluster := range []string{servertest.Default, "a"} {
		resp := wire.Send(t, s.Address(cluster), servertest.Request{Method: http.MethodGet, Path: "/.well-known/openid-configuration", Token: servertest.AdminToken})
		var says struct {
			Keys string `json:"jwks_uri"`
		}
		if err := json.Unmarshal([]byte(resp.Body), &says); err != nil {
			t.Fatalf("%s: %v: %s", cluster, err, resp.Body)
		}
		path, ok := strings.CutPrefix(says.Keys, s.URL)
		if !ok {
			t.Fatalf("%s points to %s, not to %s", cluster, says.Keys, s.URL)
		}
		there := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken})
		own := wire.Send(t, s.Address(cluster), servertest.Request{Method: http.MethodGet, Path: "/openid/v1/jwks", Token: servertest.AdminToken})
		if there.Status != http.StatusOK || there.Body != own.Body {
			t.Errorf("%s points to %s, where there is %d %s, and has %s", cluster, says.Keys, there.Status, there.Body, own.Body)
		}
		keys[own.Body] = cluster
	}
	if len(keys) != 2 {
		t.Error("two clusters have the same keys")
	}
}

// TestClosedClusterIsNotKeptByItsCertificate: a cluster that was reached by its host name once and is closed takes no memory.
func TestClosedClusterIsNotKeptByItsCertificate(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Clusters: []string{"a"}, Idle: time.Millisecond, Domain: "clusters.example"})
	gone := make(chan struct{})
	func() {
		cfg := s.WithCertificate(t, servertest.Default, "a", pki.Admin())
		cfg.Host, cfg.ServerName, cfg.CAData = s.URL, "a.clusters.example", s.Identity("a").ClusterCA.Bundle()
		if _, err := servertest.NewClient(t, cfg).CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		plane, release, err := s.Clusters.Acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		runtime.AddCleanup(plane, func(c chan struct{}) { close(c) }, gone)
		s.Forget("a")
		release()
	}()
	await(t, "the closed cluster is gone from memory", func() bool {
		runtime.GC()
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
}
