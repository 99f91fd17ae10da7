package join

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/certificate"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/client-go/util/keyutil"
)

func subject(node string) pkix.Name {
	return pkix.Name{CommonName: userPrefix + node, Organization: []string{group}}
}

// first gets the first certificate.
func (m *Member) first(ctx context.Context) error {
	if m.cfg.Token.ID == "" {
		return m.issued()
	}
	client, err := m.stranger()
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return m.patiently(ctx, "A client certificate could not be had", func(ctx context.Context) error { return m.ask(ctx, client) })
}

// issued takes the first certificate from who issues them.
func (m *Member) issued() error {
	if m.cfg.Issue == nil {
		return ErrNoToken
	}
	cert, key, err := m.cfg.Issue(m.cfg.Node)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if _, err := (told{m.store, m.cfg.Log, "client"}).Update(cert, key); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

// approval is how long one request is waited for before the server is asked anew.
const approval = 15 * time.Minute

// ask makes a request for a certificate, or takes up that which an earlier run has made, and waits for its answer. The key is on the
// disk before anybody hears of it: whenever the agent dies, the next one goes on with the same request.
func (m *Member) ask(ctx context.Context, client kubernetes.Interface) error {
	key, keyPEM, err := m.pending()
	if err != nil {
		return fatal{err}
	}
	request, err := cert.MakeCSRFromTemplate(key, m.request())
	if err != nil {
		return fatal{err}
	}
	usages := certificate.DefaultKubeletClientGetUsages(key)
	name, err := requestName(key.Public(), m.cfg.Node)
	if err != nil {
		return fatal{err}
	}
	name, uid, err := csr.RequestCertificateWithContext(ctx, client, request, name, certificatesv1.KubeAPIServerClientKubeletSignerName, nil, usages, key)
	if err != nil {
		return refused(err)
	}
	m.cfg.Log.Info("Waiting for the answer to a certificate signing request", "request", name, "node", m.cfg.Node)
	ctx, cancel := context.WithTimeout(ctx, approval)
	defer cancel()
	certPEM, err := csr.WaitForCertificate(ctx, client, name, uid)
	if err != nil {
		if ctx.Err() == nil {
			_ = os.Remove(m.path(pendingFile)) // refused, or deleted: another request is another chance
		}
		return refused(err)
	}
	if _, err := (told{m.store, m.cfg.Log, "client"}).Update(certPEM, keyPEM); err != nil {
		_ = os.Remove(m.path(pendingFile))
		return err
	}
	return os.Remove(m.path(pendingFile))
}

func refused(err error) error {
	switch {
	case apierrors.IsUnauthorized(err):
		return ErrToken
	case apierrors.IsForbidden(err):
		return fatal{fmt.Errorf("the token gives no right to ask for a certificate: %w", err)}
	}
	return err
}

// pending is the key that a certificate is being asked for.
func (m *Member) pending() (crypto.Signer, []byte, error) {
	path := m.path(pendingFile)
	data, err := os.ReadFile(path)
	if err == nil {
		parsed, parseErr := keyutil.ParsePrivateKeyPEM(data)
		if key, ok := parsed.(*ecdsa.PrivateKey); ok && parseErr == nil {
			return key, data, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if data, err = keyutil.MarshalPrivateKeyToPEM(key); err != nil {
		return nil, nil, err
	}
	return key, data, write(path, data, 0o600)
}

// requestName is the same for the same key and node, so that the same request is found again.
func requestName(key crypto.PublicKey, node string) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write(der)
	h.Write([]byte(node))
	return "node-csr-" + hex.EncodeToString(h.Sum(nil)), nil
}
