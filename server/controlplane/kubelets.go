package controlplane

import (
	"crypto/tls"
	"net/http"
	"sync"
	"time"

	"github.com/rowlock-io/rowlock/server/pki"
)

// kubeletUser is who the server is to nodes, as with kubeadm. What it may do there is the role system:kubelet-api-admin.
const kubeletUser = "kube-apiserver-kubelet-client"

// newKubelets makes the transports to nodes' own servers. Both show the server's certificate as a client; the first demands one of the
// cluster's authority, and the other is for who asks for logs with insecureSkipTLSVerifyBackend.
func newKubelets(b *backends, ca *pki.Authority) (verified, unverified http.RoundTripper) {
	own := &kubeletClient{ca: ca}
	return b.dialer.Transport(&tls.Config{RootCAs: ca.Pool(), GetClientCertificate: own.certificate, MinVersion: tls.VersionTLS12}),
		b.dialer.Transport(&tls.Config{InsecureSkipVerify: true, GetClientCertificate: own.certificate, MinVersion: tls.VersionTLS12}) //nolint:gosec // it was asked for
}

// kubeletClient is the certificate that the server shows to nodes. It is made with the first connection, and anew when a third of its life
// is left.
type kubeletClient struct {
	ca *pki.Authority

	mu      sync.Mutex
	current *tls.Certificate
}

func (k *kubeletClient) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil && time.Until(k.current.Leaf.NotAfter) > pki.Lifetime/3 {
		return k.current, nil
	}
	pair, err := k.ca.IssueClient(pki.Client{User: kubeletUser})
	if err != nil {
		return nil, err
	}
	k.current = &pair.TLS
	return k.current, nil
}
