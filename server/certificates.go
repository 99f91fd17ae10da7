package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"github.com/rowlock-io/rowlock/server/pki"
)

// TLS is what the operator says of connections. The zero value: the certificate of the cluster at the root, TLS 1.2 and
// later, and what Go prefers.
type TLS struct {
	// CertFile and KeyFile are a certificate to show in place of the cluster's own, and Named further ones for the names
	// that clients ask for. They are read again when they change. For names that only the cluster's own certificate is
	// for, such as kubernetes.default.svc, and for host names of clusters, those of the clusters are shown as ever.
	CertFile, KeyFile string
	Named             []NamedCertificate

	MinVersion   uint16
	CipherSuites []uint16
	Curves       []tls.CurveID
}

// NamedCertificate is shown to clients that ask for one of its names. Without names: those in the certificate.
type NamedCertificate struct {
	CertFile, KeyFile string
	Names             []string // may begin with "*."
}

// base is what all connections have in common.
func (c TLS) base() *tls.Config {
	return &tls.Config{
		MinVersion: max(c.MinVersion, tls.VersionTLS12), CipherSuites: c.CipherSuites, CurvePreferences: c.Curves,
		// Each cluster checks client certificates against its own authority.
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"h2", "http/1.1"},
	}
}

// certificates chooses between the operator's certificates as kube-apiserver does.
type certificates struct {
	own    *pki.Serving
	chosen *dynamiccertificates.DynamicServingCertificateController
	runs   []func(context.Context)
}

// open reads the operator's certificates. It returns nil when there are none.
func (c TLS) open(own *pki.Serving) (*certificates, error) {
	if c.CertFile == "" && c.KeyFile == "" && len(c.Named) == 0 {
		return nil, nil
	}
	made := &certificates{own: own}
	var main dynamiccertificates.CertKeyContentProvider = ownContent{own}
	var followed []*dynamiccertificates.DynamicCertKeyPairContent
	if c.CertFile != "" || c.KeyFile != "" {
		content, err := dynamiccertificates.NewDynamicServingContentFromFiles("serving-cert", c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("serving certificate: %w", err)
		}
		main, followed = content, append(followed, content)
	}
	var named []dynamiccertificates.SNICertKeyContentProvider
	for _, n := range c.Named {
		content, err := dynamiccertificates.NewDynamicSNIContentFromFiles("sni-serving-cert", n.CertFile, n.KeyFile, n.Names...)
		if err != nil {
			return nil, fmt.Errorf("serving certificate %s: %w", n.CertFile, err)
		}
		named, followed = append(named, content), append(followed, content.DynamicCertKeyPairContent)
	}
	made.chosen = dynamiccertificates.NewDynamicServingCertificateController(c.base(), nil, main, named, nil)
	if err := made.chosen.RunOnce(); err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	for _, content := range followed {
		content.AddListener(made.chosen)
		made.runs = append(made.runs, func(ctx context.Context) { content.Run(ctx, 1) })
	}
	made.runs = append(made.runs, func(ctx context.Context) { made.chosen.Run(1, ctx.Done()) })
	return made, nil
}

// run follows the files until ctx ends.
func (c *certificates) run(ctx context.Context) {
	var g errgroup.Group
	for _, run := range c.runs {
		g.Go(func() error {
			run(ctx)
			return nil
		})
	}
	_ = g.Wait()
}

// configForClient returns nil when the cluster's own certificate is to be shown.
func (c *certificates) configForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	config, err := c.chosen.GetConfigForClient(hello)
	if err != nil || hello.ServerName == "" || offers(config, hello.ServerName) {
		return config, err
	}
	own, err := c.own.GetCertificate(hello)
	if err != nil || own.Leaf.VerifyHostname(hello.ServerName) != nil {
		return config, err
	}
	return nil, nil
}

// offers tells whether a certificate of the operator is for a name.
func offers(config *tls.Config, name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	_, parent, _ := strings.Cut(name, ".")
	for _, pattern := range []string{name, "*." + parent} {
		if config.NameToCertificate[pattern] != nil { //nolint:staticcheck // upstream chooses by it
			return true
		}
	}
	return config.Certificates[0].Leaf.VerifyHostname(name) == nil
}

// ownContent is the cluster's own certificate, for clients that ask for no name of another.
type ownContent struct{ serving *pki.Serving }

// Name implements dynamiccertificates.CertKeyContentProvider.
func (ownContent) Name() string { return "own-serving-cert" }

// AddListener implements dynamiccertificates.Notifier. Nobody has to be told: it is asked each minute.
func (ownContent) AddListener(dynamiccertificates.Listener) {}

// CurrentCertKeyContent implements dynamiccertificates.CertKeyContentProvider.
func (o ownContent) CurrentCertKeyContent() (cert, key []byte) {
	current, err := o.serving.GetCertificate(nil)
	if err != nil {
		return nil, nil // what was shown before is shown on
	}
	der, err := x509.MarshalPKCS8PrivateKey(current.PrivateKey)
	if err != nil {
		return nil, nil
	}
	for _, c := range current.Certificate {
		cert = append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Validate reports what is wrong without reading files.
func (c TLS) Validate() error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("--tls-cert-file and --tls-private-key-file must be given together")
	}
	return nil
}
