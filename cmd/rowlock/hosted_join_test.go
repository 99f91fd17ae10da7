package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"github.com/rowlock-io/rowlock/agents/controllers"
	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	"github.com/rowlock-io/rowlock/agents/node/join"
	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
)

var threeClusters = []string{servertest.Default, "a", "b"}

// hosting is a server of three clusters that machines can join.
func hosting(t *testing.T, flags ...string) *servertest.Server {
	t.Helper()
	return servertest.Start(t, servertest.Config{
		Clusters: []string{"a", "b"}, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Plane: func(cfg *controlplane.Config) {
			cfg.Access.BootstrapTokens = true
			cfg.Agents = inside(t, flags...)
		},
	})
}

// joined makes a machine a member of a cluster.
func joined(t *testing.T, s *servertest.Server, cluster, node string) (*join.Member, join.Config) {
	t.Helper()
	cfg := joinConfig(t, s, node, makeTokenOf(t, s, cluster))
	cfg.Server = s.Address(cluster)
	member, err := join.Join(t.Context(), cfg)
	if err != nil {
		t.Fatalf("cluster %s: %v", cluster, err)
	}
	return member, cfg
}

// TestMachinesJoinHostedClusters: nodes of one name in three clusters are three nodes, and none of them is anybody in another cluster.
func TestMachinesJoinHostedClusters(t *testing.T) {
	t.Parallel()
	s := hosting(t)
	members := map[string]*rest.Config{}
	for _, cluster := range threeClusters {
		member, cfg := joined(t, s, cluster, "worker")
		members[cluster] = member.Config()
		client, err := kubernetes.NewForConfig(member.Config())
		if err != nil {
			t.Fatal(err)
		}
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker", Labels: map[string]string{"of": cluster}}}
		if _, err := client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
			t.Errorf("the node of %s: %v", cluster, err)
		}
		cfg.Token, cfg.Server = join.Token{}, ""
		if again, err := join.Join(t.Context(), cfg); err != nil || again.Config().Host != s.Address(cluster) {
			t.Errorf("%s the second time: %v", cluster, err)
		}
	}
	for _, cluster := range threeClusters {
		nodes, err := s.Client(t, cluster).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil || len(nodes.Items) != 1 || nodes.Items[0].Labels["of"] != cluster {
			t.Errorf("the nodes of %s are %v, %v", cluster, nodes, err)
		}
		for _, other := range threeClusters {
			if other != cluster {
				t.Run(cluster+" at "+other, func(t *testing.T) { t.Parallel(); nobody(t, s, members[cluster], cluster, other) })
			}
		}
	}
}

// nobody tries a node's certificate in another cluster in all the ways that lead there.
func nobody(t *testing.T, s *servertest.Server, member *rest.Config, own, other string) {
	root := s.Identity(servertest.Default).ClusterCA.Bundle()
	for what, change := range map[string]func(*rest.Config){
		"at its path": func(c *rest.Config) { c.Host, c.ServerName, c.CAData = s.Address(other), "", root },
		"at its name": func(c *rest.Config) {
			c.Host, c.ServerName, c.CAData = s.URL, other+".servers.rowlock.internal", s.Identity(other).ClusterCA.Bundle()
		},
		"at its name and path": func(c *rest.Config) {
			c.Host, c.ServerName, c.CAData = s.Address(other), other+".servers.rowlock.internal", s.Identity(other).ClusterCA.Bundle()
		},
		"at its path by its own name": func(c *rest.Config) {
			c.Host, c.ServerName, c.CAData = s.URL+"/clusters/"+other, own+".servers.rowlock.internal", s.Identity(own).ClusterCA.Bundle()
		},
	} {
		config := rest.CopyConfig(member)
		config.CAFile = ""
		change(config)
		node, err := servertest.NewClient(t, config).CoreV1().Nodes().Get(t.Context(), "worker", metav1.GetOptions{})
		switch {
		case what == "at its path by its own name" && (apierrors.IsNotFound(err) || apierrors.IsForbidden(err)):
		case what != "at its path by its own name" && apierrors.IsUnauthorized(err):
		default:
			t.Errorf("%s: the node is %s, %v", what, node.Labels["of"], err)
		}
	}
}

// TestTokensAreOfOneCluster: a token of one cluster lets nobody into another, whatever is said of its authority.
func TestTokensAreOfOneCluster(t *testing.T) {
	t.Parallel()
	s := hosting(t)
	tokens := map[string]join.Token{}
	for _, cluster := range threeClusters {
		tokens[cluster] = makeTokenOf(t, s, cluster)
	}
	for _, cluster := range threeClusters {
		for _, other := range threeClusters {
			if cluster == other {
				continue
			}
			cfg := joinConfig(t, s, "worker", tokens[cluster])
			cfg.Server = s.Address(other)
			if _, err := join.Join(t.Context(), cfg); !errors.Is(err, join.ErrPin) {
				t.Errorf("a token of %s at %s: %v", cluster, other, err)
			}
			cfg.Dir = t.TempDir()
			cfg.Token.Pins = tokens[other].Pins
			if _, err := join.Join(t.Context(), cfg); !errors.Is(err, join.ErrToken) {
				t.Errorf("a token of %s with the pin of %s: %v", cluster, other, err)
			}
		}
	}
}

// TestOperatorsSignerIsOfTheRoot: the operator's authority signs for the cluster at the root and for no other, where whoever may approve
// requests could have himself certified as anybody there.
func TestOperatorsSignerIsOfTheRoot(t *testing.T) {
	t.Parallel()
	cert, key := operatorsAuthority(t)
	s := hosting(t, "--cluster-signing-cert-file="+cert, "--cluster-signing-key-file="+key)
	for _, cluster := range threeClusters {
		cfg := joinConfig(t, s, "worker", makeTokenOf(t, s, cluster))
		cfg.Server = s.Address(cluster)
		if _, err := join.Join(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		certs, err := certutil.CertsFromFile(filepath.Join(cfg.Dir, "client.pem"))
		if err != nil {
			t.Fatal(err)
		}
		want := "operator"
		if cluster != servertest.Default {
			want = s.Identity(cluster).ClusterCA.Certificate().Subject.CommonName
		}
		if got := certs[0].Issuer.CommonName; got != want {
			t.Errorf("%s: the certificate is signed by %q, want %q", cluster, got, want)
		}
		_, err = certs[0].Verify(x509.VerifyOptions{Roots: s.Identity(cluster).ClusterCA.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if (err == nil) != (cluster != servertest.Default) {
			t.Errorf("%s: %v", cluster, err)
		}
	}
}

func operatorsAuthority(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "operator"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	certPEM, err := certutil.EncodeCertificates(parsed)
	if err == nil {
		err = errors.Join(os.WriteFile(certFile, certPEM, 0o600), os.WriteFile(keyFile, keyPEM, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

// TestKubeletsJoinHostedClusters: what stock kubelets are given leads to the cluster, by the authority of the certificate that they are shown.
func TestKubeletsJoinHostedClusters(t *testing.T) {
	t.Parallel()
	s := hosting(t)
	text := mustRowlock(t, "token", "create", "-o", "kubeconfig", "--kubeconfig", adminKubeconfigOf(t, s, "a"))
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != s.Address("a") || config.ServerName != "" {
		t.Errorf("it leads to %s, %s", config.Host, config.ServerName)
	}
	_, err = servertest.NewClient(t, config).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "system:bootstrap:") {
		t.Errorf("who comes with the token: %v", err)
	}
}

// TestAgentsOfHostedClusters runs agents of one name in two clusters: the server reaches each for its own cluster.
func TestAgentsOfHostedClusters(t *testing.T) {
	t.Parallel()
	s := hosting(t)
	ports := map[string]int{}
	for _, cluster := range []string{"a", "b"} {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = free.Close()
		ports[cluster] = free.Addr().(*net.TCPAddr).Port
		cri, dir := fakecri.Start(t, fakecri.Containerd()), t.TempDir()
		var o agentCommand
		if err := newAgentCommand(&o).ParseFlags([]string{
			"--data-dir", dir, "--hostname-override", "worker", "--node-ip", addressOfTest(t)[0], "--container-runtime-endpoint", cri.Endpoint(),
			"--kubelet-port", fmt.Sprint(ports[cluster]), "--pod-network=false", "--cgroups-per-qos=false",
		}); err != nil {
			t.Fatal(err)
		}
		cfg := joinConfig(t, s, "worker", makeTokenOf(t, s, cluster))
		cfg.Server, cfg.Dir = s.Address(cluster), filepath.Join(dir, "pki")
		defer runNode(t, &o.node, nodePlace{Join: cfg, Endpoint: cri.Endpoint(), Dir: dir})()
	}
	for cluster, port := range ports {
		admin := s.Client(t, cluster)
		condition(t, admin, "worker", corev1.ConditionTrue, "")
		until(t, "the API of the node of "+cluster, func(ctx context.Context) (bool, error) {
			got, err := admin.CoreV1().RESTClient().Get().Resource("nodes").Name("worker").SubResource("proxy").Suffix("configz").DoRaw(ctx)
			if err == nil && !strings.Contains(string(got), fmt.Sprintf(`"port":%d,`, port)) {
				return false, fmt.Errorf("another node answers: %s", got)
			}
			return err == nil, nil
		})
		// Who is somebody in the other cluster is nobody to this node.
		for _, other := range threeClusters {
			pair, err := s.Identity(other).ClusterCA.IssueClient(pki.Admin())
			if err != nil {
				t.Fatal(err)
			}
			err = askNode(t, port, pair.TLS)
			if (err == nil) != (other == cluster) {
				t.Errorf("an administrator of %s asks the node of %s: %v", other, cluster, err)
			}
		}
	}
	if nodes, err := s.Client(t, servertest.Default).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil || len(nodes.Items) != 0 {
		t.Errorf("at the root: %v, %v", nodes, err)
	}
}

// askNode asks a node's own API with a client certificate.
func askNode(t *testing.T, port int, cert tls.Certificate) error {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}}} //nolint:gosec // it is asked, not believed
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/runningpods/", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// TestOwn: the host names of a cluster are its servers', and the node in this process is one of the cluster at the root.
func TestOwn(t *testing.T) {
	t.Parallel()
	o := agentOptions{domain: "clusters.example", own: controllers.Own{Names: []string{"192.0.2.1"}, Node: func(string) bool { return true }}}
	for _, cluster := range threeClusters {
		own := o.ownOf(cluster)
		if d := cmp.Diff([]string{"192.0.2.1", cluster + ".clusters.example"}, own.Names); d != "" || (own.Node != nil) != (cluster == servertest.Default) {
			t.Errorf("%s: %v, %s", cluster, own.Node != nil, d)
		}
	}
}
