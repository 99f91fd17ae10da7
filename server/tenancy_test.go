package server_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
	"github.com/rowlock-io/rowlock/storage/postgres"
	"github.com/rowlock-io/rowlock/storage/sqlite"
)

// databases are those that tests of whole servers run on.
var databases = map[string]func(t *testing.T) storage.Database{
	"memory": func(*testing.T) storage.Database { return memory.New() },
	"sqlite": func(t *testing.T) storage.Database {
		return opened(t)(sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "rowlock.db")}))
	},
	"postgres": func(t *testing.T) storage.Database {
		url := postgresServer.Database(t)
		db, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		return opened(t)(db, err)
	},
}

func opened(t *testing.T) func(storage.Database, error) storage.Database {
	return func(db storage.Database, err error) storage.Database {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
}

// TestTenancy serves two clusters, and the one at the root, from one database, and looks for a way from one to another.
func TestTenancy(t *testing.T) {
	t.Parallel()
	for name, open := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, servertest.Config{Database: open(t), Clusters: []string{"a", "b"}})
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, StringData: map[string]string{"of": "a"}}
			if _, err := s.Client(t, "a").CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			t.Run("certificates", func(t *testing.T) { certificatesApart(t, s) })
			t.Run("tokens", func(t *testing.T) { tokensApart(t, s) })
			t.Run("objects", func(t *testing.T) { objectsApart(t, s) })
			t.Run("roles", func(t *testing.T) { rolesApart(t, s) })
			t.Run("paths", func(t *testing.T) { pathsApart(t, s) })
			t.Run("process", func(t *testing.T) { processHidden(t, s) })
		})
	}
}

func certificatesApart(t *testing.T, s *servertest.Server) {
	for _, issuer := range []string{servertest.Default, "a", "b"} {
		for _, cluster := range []string{servertest.Default, "a", "b"} {
			client := servertest.NewClient(t, s.WithCertificate(t, cluster, issuer, pki.Admin()))
			_, err := client.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
			if issuer == cluster && err != nil {
				t.Errorf("a certificate of %s at %s: %v", issuer, cluster, err)
			}
			if issuer != cluster && !apierrors.IsUnauthorized(err) {
				t.Errorf("a certificate of %s at %s: %v, want Unauthorized", issuer, cluster, err)
			}
		}
	}
}

func tokensApart(t *testing.T, s *servertest.Server) {
	admin := s.Client(t, "a")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}
	for _, cluster := range []string{servertest.Default, "a", "b"} {
		if _, err := s.Client(t, cluster).CoreV1().ServiceAccounts("default").Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	token, err := admin.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "robot", newTokenRequest(), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for cluster, known := range map[string]bool{servertest.Default: false, "a": true, "b": false} {
		client := servertest.NewClient(t, s.Config(cluster, token.Status.Token))
		_, err := client.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
		if known && !apierrors.IsForbidden(err) || !known && !apierrors.IsUnauthorized(err) {
			t.Errorf("a service account's token of a at %s: %v", cluster, err)
		}
	}
}

func objectsApart(t *testing.T, s *servertest.Server) {
	for _, cluster := range []string{servertest.Default, "b"} {
		client := s.Client(t, cluster)
		if _, err := client.CoreV1().Secrets("default").Get(t.Context(), "mine", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the secret of a at %s: %v", cluster, err)
		}
		revision := func() string {
			t.Helper()
			list, err := client.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
			if err != nil || len(list.Items) != 0 {
				t.Fatalf("%d secrets at %s, %v", len(list.Items), cluster, err)
			}
			return list.ResourceVersion
		}
		// A cluster that began just now writes by itself, too; what a does would be seen each time.
		before, after := "", "none"
		for try := 0; try < 20 && before != after; try++ {
			before = revision()
			label := fmt.Appendf(nil, `{"metadata":{"labels":{"a":"%s-%d"}}}`, cluster, try)
			if _, err := s.Client(t, "a").CoreV1().Secrets("default").Patch(t.Context(), "mine", "application/merge-patch+json", label, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			after = revision()
		}
		if before != after {
			t.Errorf("a write to a took the revision of %s from %s to %s", cluster, before, after)
		}
	}
}

func rolesApart(t *testing.T, s *servertest.Server) {
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "alice"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"}},
	}
	if _, err := s.Client(t, "a").RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	may := func(cluster string) bool {
		_, err := servertest.NewClient(t, s.Config(cluster, servertest.AliceToken)).CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
		if err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("alice at %s: %v", cluster, err)
		}
		return err == nil
	}
	await(t, "alice may read in a", func() bool { return may("a") })
	if may("b") || may(servertest.Default) {
		t.Error("what alice may do in a she may do elsewhere")
	}
}

// pathsApart sends paths that name a cluster in odd ways. None may show what is in a.
func pathsApart(t *testing.T, s *servertest.Server) {
	const tail = "/api/v1/namespaces/default/secrets/mine"
	for _, path := range []string{
		"/clusters/b/../a" + tail, "/clusters/b/%2e%2e/a" + tail, "/clusters/b/..%2fa" + tail, "/clusters/b%2f..%2fa" + tail,
		"/clusters//a" + tail, "//clusters/a" + tail, "/clusters/a%2f" + tail[1:], "/clusters/%61" + tail, "/clusters" + tail,
		"/clusters/" + tail, "/clusters/A" + tail, "/clusters/a " + tail, "/clusters/a%00" + tail, "/clusters/a;" + tail,
		"/clusters/./a" + tail, "/clusters/../clusters/a" + tail, "/clusters/b/clusters/a" + tail, "/%63lusters/a" + tail,
		"/clusters/none" + tail, "/clusters/b" + tail, tail,
	} {
		resp, err := wire.Do(t.Context(), s.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken})
		if err != nil {
			continue // refused by net/http as no request at all
		}
		if resp.Status != http.StatusNotFound && resp.Status != http.StatusBadRequest {
			t.Errorf("GET %s: %d %s", path, resp.Status, brief(resp.Body))
		}
	}
	resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: "/clusters/a" + tail, Token: servertest.AdminToken})
	if resp.Status != http.StatusOK || !strings.Contains(resp.Body, `"mine"`) {
		t.Errorf("GET /clusters/a%s: %d %s", tail, resp.Status, resp.Body)
	}
}

// processHidden looks at what tells of the whole process: it is for the operator, not for a tenant's administrator.
func processHidden(t *testing.T, s *servertest.Server) {
	for _, path := range []string{"/metrics", "/metrics/slis", "/debug/pprof/", "/debug/pprof/heap"} {
		for cluster, want := range map[string]int{servertest.Default: http.StatusOK, "a": http.StatusNotFound} {
			resp := wire.Send(t, s.Address(cluster), servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken})
			if resp.Status != want {
				t.Errorf("GET %s of %s: %d, want %d", path, cluster, resp.Status, want)
			}
		}
	}
}

// TestIdleClusters closes a cluster that nobody asks, and opens it again for whoever does, with all that was in it.
func TestIdleClusters(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Clusters: []string{"a"}, Idle: time.Millisecond})
	for round := range 3 {
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
			release()
			return now != first
		})
		namespaces := s.Client(t, "a").CoreV1().Namespaces()
		name := strings.Repeat("x", round+1)
		if _, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		all, err := namespaces.List(t.Context(), metav1.ListOptions{})
		if err != nil || len(all.Items) != 4+round+1 {
			t.Fatalf("%d namespaces in round %d, %v", len(all.Items), round, err)
		}
	}
}

// TestHostNames reaches clusters by names of their own, each with a certificate of its own authority.
func TestHostNames(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Clusters: []string{"a", "b"}, Domain: "Clusters.example."})
	at := func(cluster, trusted, path string) (*rest.Config, error) {
		cfg := s.WithCertificate(t, servertest.Default, cluster, pki.Admin())
		cfg.Host = s.URL + path
		cfg.ServerName = cluster + ".clusters.example"
		cfg.CAData = s.Identity(trusted).ClusterCA.Bundle()
		_, err := servertest.NewClient(t, cfg).CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
		return cfg, err
	}
	for _, cluster := range []string{servertest.Default, "a", "b"} {
		if _, err := at(cluster, cluster, ""); err != nil {
			t.Errorf("%s at its own name: %v", cluster, err)
		}
	}
	if _, err := at("a", "b", ""); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("the certificate at a's name is believed by b's authority: %v", err)
	}
	if _, err := at("a", "a", "/clusters/a"); err != nil {
		t.Errorf("a at its own name and path: %v", err)
	}
	for _, path := range []string{"/clusters/b", "/clusters/a/clusters/a", "/clusters/a%2f..%2fb", "/clusters/A", "/clusters/"} {
		if _, err := at("a", "a", path); err == nil {
			t.Errorf("there is an answer at a's name to %s", path)
		}
	}
	cfg := s.WithCertificate(t, servertest.Default, "a", pki.Admin())
	cfg.ServerName, cfg.CAData = "none.clusters.example", s.Identity("a").ClusterCA.Bundle()
	if _, err := servertest.NewClient(t, cfg).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a name of no cluster has a certificate")
	}
}
