// Package join makes a machine a member of a cluster, and keeps it one: it finds out which authority the cluster has and checks
// it against what the token pins, gets a client and a serving certificate by ordinary certificate signing requests, keeps them
// below the agent's data directory, and renews them in time.
//
// The token is needed once. After that the machine is known by its certificate, which it renews with itself.
package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/certificate"
)

// What certificates of nodes say (https://kubernetes.io/docs/reference/access-authn-authz/node/).
const (
	userPrefix = "system:node:"
	group      = "system:nodes"
)

// Files in the directory.
const (
	authorityFile  = "ca.crt"
	clientFile     = "client.pem"
	pendingFile    = "client-pending.key"
	servingFile    = "serving.pem"
	kubeconfigFile = "kubeconfig"
)

// Config says who joins what.
type Config struct {
	// Dir is where certificates and keys are kept. It is made when it is missing, for its owner only.
	Dir string
	// Node is the node's name.
	Node string
	// Server is the URL of the API server; empty: that of the last time.
	Server string
	// Token vouches for the machine where it has no certificate yet.
	Token Token
	// Authority is the cluster's, PEM, where the operator names it; the token need not pin it then.
	Authority []byte
	// Issue makes the first certificate where there is no token: the server in the same process does. Optional.
	Issue func(node string) (cert, key []byte, err error)

	// Metrics has series of the node's certificates, as kubelets have them; nil: nobody wants them.
	Metrics prometheus.Registerer

	UserAgent string
	Log       *slog.Logger
}

// Errors of which trying again does not help.
var (
	// ErrToken: the server does not know the token, or not any more.
	ErrToken = errors.New("join: the token is not valid: it may have expired or been deleted; make another with: rowlock token create")
	// ErrPin: who answers at the server's address is not the cluster that the token is for.
	ErrPin = errors.New("join: the cluster's authority is not the one that the token pins")
	// ErrNoToken: the machine has no certificate and nothing to get one with.
	ErrNoToken = errors.New("join: there is no certificate yet: a token is needed (--token)")
	// ErrOther: the directory is that of another node, or of a node of another cluster.
	ErrOther = errors.New("join: the data directory belongs to another node")
)

// Member is a machine that has joined.
type Member struct {
	cfg        Config
	server     string
	serverName string // that the server's certificate is for; empty: the host of its URL
	known      bool   // serverName is
	store      *store
}

// Join returns when the machine has a client certificate. It asks for one until it has it or ctx ends, unless it is certain that it
// will get none.
func Join(ctx context.Context, cfg Config) (*Member, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	m := &Member{cfg: cfg, store: &store{path: filepath.Join(cfg.Dir, clientFile)}}
	if err := m.recall(); err != nil {
		return nil, err
	}
	current, err := m.valid()
	if err != nil {
		return nil, err
	}
	if err := m.trust(ctx, current != nil); err != nil {
		return nil, err
	}
	if err := m.reach(ctx); err != nil {
		return nil, err
	}
	if current == nil {
		if err := m.first(ctx); err != nil {
			return nil, err
		}
	}
	return m, m.remember()
}

// valid is the certificate of last time; nil: there is none that is still good.
func (m *Member) valid() (*tls.Certificate, error) {
	cert, err := m.store.Current()
	var none *certificate.NoCertKeyError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if name := cert.Leaf.Subject.CommonName; name != userPrefix+m.cfg.Node {
		return nil, fmt.Errorf("%w: %s is the certificate of %s; give the node its name with --hostname-override, or remove the file to join as %s",
			ErrOther, m.store.path, strings.TrimPrefix(name, userPrefix), m.cfg.Node)
	}
	if time.Now().After(cert.Leaf.NotAfter) {
		m.cfg.Log.Warn("The node's certificate has expired", "expired", cert.Leaf.NotAfter)
		return nil, nil
	}
	return cert, nil
}

// trust finds out the cluster's authority. known: the machine is a member already.
func (m *Member) trust(ctx context.Context, known bool) error {
	path := m.path(authorityFile)
	kept, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("join: %w", err)
	}
	switch {
	case len(m.cfg.Authority) > 0:
		if _, err := parse(m.cfg.Authority); err != nil {
			return fmt.Errorf("join: the authority: %w", err)
		}
		if bytes.Equal(kept, m.cfg.Authority) {
			return nil
		}
		m.known = false
		return write(path, m.cfg.Authority, 0o644)
	case len(kept) > 0 && (len(m.cfg.Token.Pins) == 0 || len(m.cfg.Token.Pins.of(kept)) > 0):
		return nil
	case len(kept) > 0 && known:
		return fmt.Errorf("%w: %s is not what the token pins; remove %s to join another cluster", ErrOther, path, m.cfg.Dir)
	case m.cfg.Token.ID == "":
		return ErrNoToken
	case len(m.cfg.Token.Pins) == 0:
		return errors.New("join: the token does not pin the cluster's authority: give its hash (--discovery-token-ca-cert-hash) or a file with it (--certificate-authority)")
	}
	found, err := m.discover(ctx)
	if err != nil {
		return err
	}
	m.known = false
	return write(path, found, 0o644)
}

// Config returns how the machine, as a node, talks to the server. Its certificate is read again from the file when it was renewed.
func (m *Member) Config() *rest.Config {
	c := m.anonymous()
	c.CertFile, c.KeyFile = m.path(clientFile), m.path(clientFile)
	return c
}

func (m *Member) anonymous() *rest.Config {
	return &rest.Config{
		Host: m.server, UserAgent: m.cfg.UserAgent, QPS: 50, Burst: 100, // as kubelets
		TLSClientConfig: rest.TLSClientConfig{CAFile: m.path(authorityFile), ServerName: m.serverName},
	}
}

// Authority is the cluster's, PEM: of the server, and of the client certificates that it shows.
func (m *Member) Authority() ([]byte, error) { return os.ReadFile(m.path(authorityFile)) }

// Kubeconfig is the path of a kubeconfig with the node's rights.
func (m *Member) Kubeconfig() string { return m.path(kubeconfigFile) }

func (m *Member) path(name string) string { return filepath.Join(m.cfg.Dir, name) }

// Run renews the client certificate until ctx ends.
func (m *Member) Run(ctx context.Context) error {
	manager, err := certificate.NewManager(&certificate.Config{
		Name: "node client certificate", SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
		Template: m.request(), GetUsages: certificate.DefaultKubeletClientGetUsages,
		CertificateStore: told{m.store, m.cfg.Log, "client"}, ClientsetFn: m.client, Ctx: &ctx, CertificateRenewFailure: m.clientFailures(),
	})
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	m.countDown(clientLife, manager)
	manager.Start() // it ends with its context; upstream has nothing to wait for
	<-ctx.Done()
	return nil
}

// client asks for certificates: as the node, or with the token where the node's certificate has expired meanwhile.
func (m *Member) client(current *tls.Certificate) (kubernetes.Interface, error) {
	if current != nil {
		return kubernetes.NewForConfig(m.Config())
	}
	if m.cfg.Token.ID == "" {
		return nil, ErrNoToken
	}
	return m.stranger()
}

// stranger is the client of a machine that has nothing but the token.
func (m *Member) stranger() (kubernetes.Interface, error) {
	c := m.anonymous()
	c.BearerToken = m.cfg.Token.bearer()
	return kubernetes.NewForConfig(c)
}

func (m *Member) request() *x509.CertificateRequest {
	return &x509.CertificateRequest{Subject: subject(m.cfg.Node)}
}
