package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	tokenapi "k8s.io/cluster-bootstrap/token/api"

	"github.com/rowlock-io/rowlock/agents/node/join"
	"github.com/rowlock-io/rowlock/agents/node/register"
	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// joinable is a server that machines can join: with bootstrap tokens, and with the loops that answer requests for certificates.
func joinable(t *testing.T, flags ...string) *servertest.Server {
	t.Helper()
	return servertest.Start(t, servertest.Config{Plane: func(cfg *controlplane.Config) {
		cfg.Access.BootstrapTokens = true
		cfg.Agents = inside(t, flags...)
	}})
}

// adminKubeconfig writes a kubeconfig of somebody who may do anything.
func adminKubeconfig(t *testing.T, s *servertest.Server) string {
	t.Helper()
	return adminKubeconfigOf(t, s, servertest.Default)
}

func adminKubeconfigOf(t *testing.T, s *servertest.Server, cluster string) string {
	t.Helper()
	config := api.NewConfig()
	config.Clusters["c"] = &api.Cluster{Server: s.Address(cluster), CertificateAuthorityData: s.Identity(servertest.Default).ClusterCA.Bundle()}
	config.AuthInfos["u"] = &api.AuthInfo{Token: servertest.AdminToken}
	config.Contexts["x"] = &api.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	path := filepath.Join(t.TempDir(), "admin.conf")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// rowlock runs a command and returns what it printed.
func rowlock(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// newToken makes a token and returns it as the command's line has it.
func makeToken(t *testing.T, s *servertest.Server, args ...string) join.Token {
	t.Helper()
	return makeTokenOf(t, s, servertest.Default, args...)
}

func makeTokenOf(t *testing.T, s *servertest.Server, cluster string, args ...string) join.Token {
	t.Helper()
	out, err := rowlock(t, append([]string{"token", "create", "--kubeconfig", adminKubeconfigOf(t, s, cluster)}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(out)
	if strings.Count(out, "\n") != 1 || len(words) != 6 || words[0] != "rowlock" || words[1] != "agent" || words[2] != "--server" || words[3] != s.Address(cluster) || words[4] != "--token" {
		t.Fatalf("token create printed %q", out)
	}
	token, err := join.ParseToken(words[5])
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func joinConfig(t *testing.T, s *servertest.Server, node string, token join.Token) join.Config {
	t.Helper()
	return join.Config{
		Dir: filepath.Join(t.TempDir(), "agent"), Node: node, Server: s.URL, Token: token, UserAgent: "test", Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// TestMachineJoins goes the whole way: a token, the pinned authority, a client certificate, the Node with its Lease, and a serving
// certificate for its names and addresses.
func TestMachineJoins(t *testing.T) {
	t.Parallel()
	s := joinable(t)
	admin := s.Client(t, servertest.Default)
	cfg := joinConfig(t, s, "worker-1", makeToken(t, s))
	member, err := join.Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(cfg.Dir, "client.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the certificate's file: %v, %v", info, err)
	}
	client, err := kubernetes.NewForConfig(member.Config())
	if err != nil {
		t.Fatal(err)
	}
	node, err := register.New(register.Config{
		Name: "worker-1", Labels: map[string]string{"disk": "ssd"}, Port: 10250, Version: "v1.36.3", DataDir: cfg.Dir, Addresses: addressOfTest(t),
		Runtime: func() register.Runtime { return register.Runtime{Name: "fake", Version: "1"} },
		Client:  client, Log: cfg.Log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- node.Run(ctx) }()
	go func() { done <- member.Run(ctx) }()
	defer func() {
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}()
	until(t, "the node is ready and has its lease", ready(admin, "worker-1"))
	got, err := admin.CoreV1().Nodes().Get(t.Context(), "worker-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Labels["disk"] != "ssd" || got.Labels[corev1.LabelHostname] != "worker-1" || got.Status.NodeInfo.ContainerRuntimeVersion != "fake://1" {
		t.Errorf("the node is %v", got)
	}

	serving, err := member.Serving(ctx, client, node.Addresses)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "a serving certificate", func(context.Context) (bool, error) {
		cert, err := serving.GetCertificate(nil)
		if errors.Is(err, join.ErrNoCertificate) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		_, err = cert.Leaf.Verify(x509.VerifyOptions{DNSName: "worker-1", Roots: s.Identity(servertest.Default).ClusterCA.Pool()})
		if err == nil {
			_, err = cert.Leaf.Verify(x509.VerifyOptions{DNSName: got.Status.Addresses[0].Address, Roots: s.Identity(servertest.Default).ClusterCA.Pool()})
		}
		return true, err
	})

	// Started again it needs no token, nor the server's URL.
	cfg.Token, cfg.Server = join.Token{}, ""
	if _, err := join.Join(t.Context(), cfg); err != nil {
		t.Errorf("the second time: %v", err)
	}
	cfg.Node = "worker-2"
	if _, err := join.Join(t.Context(), cfg); !errors.Is(err, join.ErrOther) {
		t.Errorf("under another name: %v", err)
	}

	// The token is no way to become a node that is alive.
	thief := joinConfig(t, s, "worker-1", makeToken(t, s))
	short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := join.Join(short, thief); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("somebody became a node that is there: %v", err)
	}
}

// addressOfTest is one of the machine's own by which others reach it.
func addressOfTest(t *testing.T) []string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil && ip.IsGlobalUnicast() {
			return []string{ip.String()}
		}
	}
	t.Skip("the machine has no address but loopback")
	return nil
}

// TestWrongTokens: who cannot join hears why, and does not try for ever.
func TestWrongTokens(t *testing.T) {
	t.Parallel()
	s := joinable(t)
	token := makeToken(t, s)

	unknown := token
	unknown.Secret = strings.Repeat("x", 16)
	if _, err := join.Join(t.Context(), joinConfig(t, s, "a", unknown)); !errors.Is(err, join.ErrToken) {
		t.Errorf("with another secret: %v", err)
	}
	other := token
	other.Pins = join.Pins{"sha256:" + strings.Repeat("0", 64)}
	if _, err := join.Join(t.Context(), joinConfig(t, s, "a", other)); !errors.Is(err, join.ErrPin) {
		t.Errorf("with another pin: %v", err)
	}
	if _, err := join.Join(t.Context(), joinConfig(t, s, "a", join.Token{})); !errors.Is(err, join.ErrNoToken) {
		t.Errorf("without: %v", err)
	}

	kubeconfig := adminKubeconfig(t, s)
	list, err := rowlock(t, "token", "list", "--kubeconfig", kubeconfig)
	if err != nil || !strings.Contains(list, token.ID) || strings.Contains(list, token.Secret) {
		t.Errorf("token list: %v\n%s", err, list)
	}
	if _, err := rowlock(t, "token", "delete", token.ID, "--kubeconfig", kubeconfig); err != nil {
		t.Error(err)
	}
	if _, err := rowlock(t, "token", "delete", token.ID, "--kubeconfig", kubeconfig); err == nil || !strings.Contains(err.Error(), "there is no token") {
		t.Errorf("deleting it twice: %v", err)
	}
	until(t, "the token is not believed any more", func(ctx context.Context) (bool, error) {
		_, err := join.Join(ctx, joinConfig(t, s, "a", token))
		return errors.Is(err, join.ErrToken), nil
	})
}

// TestClusterInfoIsSigned: machines that join by kubeadm's rules find a signature by the token.
func TestClusterInfoIsSigned(t *testing.T) {
	t.Parallel()
	s := joinable(t)
	admin := s.Client(t, servertest.Default)
	token := makeToken(t, s)
	until(t, "a signature", func(ctx context.Context) (bool, error) {
		info, err := admin.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, tokenapi.ConfigMapClusterInfo, metav1.GetOptions{})
		return err == nil && info.Data[tokenapi.JWSSignatureKeyPrefix+token.ID] != "", err
	})
}

// TestTokenCleaned: a token that has expired is deleted.
func TestTokenCleaned(t *testing.T) {
	t.Parallel()
	s := joinable(t)
	admin := s.Client(t, servertest.Default)
	token := makeToken(t, s, "--ttl", "1s")
	until(t, "the token is gone", func(ctx context.Context) (bool, error) {
		_, err := admin.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, "bootstrap-token-"+token.ID, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
}
