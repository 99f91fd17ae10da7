package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/sqlite"
)

// export runs the command on a data directory.
func export(t *testing.T, dataDir string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(append([]string{"identity", "export", "--data-dir", dataDir}, args...))
	root.SetOut(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// TestIdentityExport: while a server has the SQLite file, the files are written, and what is in them is the cluster's.
func TestIdentityExport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, err := seal.LoadOrGenerate(filepath.Join(dir, "encryption.key"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "rowlock.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := servertest.Start(t, servertest.Config{Database: db, Keys: keys, Clusters: []string{"blue"}, Domain: "example.test"})
	_ = s.Client(t, "blue")

	for _, cluster := range []string{servertest.Default, "blue"} {
		out := filepath.Join(t.TempDir(), "files")
		said, err := export(t, dir, "--for=kube-controller-manager,kube-scheduler", "--cluster", cluster, "--server", s.URL, out)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{"ca.crt", "ca.key", "controller-manager.conf", "sa.key", "scheduler.conf"}
		got, err := os.ReadDir(out)
		if err != nil || len(got) != len(names) {
			t.Fatalf("%v, %v", got, err)
		}
		for i, entry := range got {
			info, err := entry.Info()
			if err != nil || info.Mode() != 0o600 || info.Name() != names[i] {
				t.Errorf("%v %v, want %s with mode 0600; %v", info.Name(), info.Mode(), names[i], err)
			}
			if !strings.Contains(said, filepath.Join(out, names[i])+": ") {
				t.Errorf("nothing is said of %s:\n%s", names[i], said)
			}
		}
		if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the directory: %v, %v", info.Mode(), err)
		}
		for name, want := range map[string]string{"controller-manager.conf": "system:kube-controller-manager", "scheduler.conf": "system:kube-scheduler"} {
			if who := whoAmI(t, filepath.Join(out, name)); who != want {
				t.Errorf("%s: %s is %q, want %q", cluster, name, who, want)
			}
		}
		pair, err := tls.LoadX509KeyPair(filepath.Join(out, "ca.crt"), filepath.Join(out, "ca.key"))
		if err != nil {
			t.Fatal(err)
		}
		authority, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil || !authority.Equal(s.Identity(cluster).ClusterCA.Certificate()) {
			t.Errorf("%s: ca.crt is another's: %v", cluster, err)
		}
		want, err := s.Identity(cluster).ServiceAccountKeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		sa, err := os.ReadFile(filepath.Join(out, "sa.key"))
		if diff := cmp.Diff(string(want), string(sa)); diff != "" || err != nil {
			t.Errorf("%s: sa.key: %v", cluster, err)
		}

		before := read(t, out, "scheduler.conf")
		if _, err := export(t, dir, "--for=kube-scheduler", "--cluster", cluster, out); err == nil || !strings.Contains(err.Error(), "scheduler.conf is there already") {
			t.Errorf("a second time: %v", err)
		}
		if read(t, out, "scheduler.conf") != before {
			t.Error("a file was replaced")
		}
		if _, err := export(t, dir, "--for=kube-scheduler", "--cluster", cluster, "--overwrite", out); err != nil || read(t, out, "scheduler.conf") == before {
			t.Errorf("with --overwrite: %v", err)
		}
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func whoAmI(t *testing.T, kubeconfig string) string {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	me, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("%s: %v", kubeconfig, err)
	}
	return me.Status.UserInfo.Username
}

func TestIdentityExportRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := (vaulted{dir}).serve(t, (vaulted{dir}).key(), func(*servertest.Server) {}); err != nil {
		t.Fatal(err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o750); err != nil { //nolint:gosec // this is what must be refused
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.key")
	if _, err := seal.LoadOrGenerate(other); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	for want, args := range map[string][]string{
		"--for is required":                        {out},
		`--for: "kubelet" must be one of`:          {"--for=kubelet", out},
		`--server "http://a" must be https`:        {"--for=kube-scheduler", "--server=http://a", out},
		`--cluster: there is no cluster "x"`:       {"--for=kube-scheduler", "--cluster=x", out},
		"--valid-for -1s must be greater":          {"--for=kube-scheduler", "--valid-for=-1s", out},
		"mode 0750":                                {"--for=kube-scheduler", open},
		"--certificate-authority: open /none":      {"--for=kube-scheduler", "--certificate-authority=/none", out},
		"the data was sealed with key":             {"--for=kube-scheduler", "--encryption-key-file=" + other, out},
		"--encryption-key-file or ROWLOCK":         {"--for=kube-scheduler", "--encryption-key-file=/none", out},
		"accepts 1 arg(s)":                         {"--for=kube-scheduler"},
		"only one of --database and --database-fi": {"--for=kube-scheduler", "--database=sqlite:///a", "--database-file=b", "--encryption-key-file=" + other, out},
	} {
		if _, err := export(t, dir, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a refused export made its directory")
	}
	if left, err := os.ReadDir(open); err != nil || len(left) > 0 {
		t.Errorf("files in a directory that others may read: %v, %v", left, err)
	}
}

func TestExportAddress(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		cluster, server, want string
		own                   bool
	}{
		{"default", "https://a:6443", "https://a:6443", true},
		{"blue", "https://a:6443", "https://a:6443/clusters/blue", false},
		{"blue", "https://a:6443/", "https://a:6443/clusters/blue", false},
		{"blue", "https://blue.example.com", "https://blue.example.com", true},
		{"blue", "https://blueish.example.com", "https://blueish.example.com/clusters/blue", false},
	} {
		o := exportOptions{cluster: tc.cluster, server: tc.server}
		got, own, err := o.address()
		if err != nil || got != tc.want || own != tc.own {
			t.Errorf("%s at %s: %s, %v, %v", tc.cluster, tc.server, got, own, err)
		}
	}
}
