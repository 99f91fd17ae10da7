package controlplane

import (
	"crypto/tls"
	"net/http"

	"github.com/rowlock-io/rowlock/server/pki"
)

// kubeletUser is who the server is to nodes, as with kubeadm. What it may do there is the role system:kubelet-api-admin.
const kubeletUser = "kube-apiserver-kubelet-client"

// newKubelets makes the transports to nodes' own servers. Both show the server's certificate as a client; the first demands one of the
// cluster's authority, and the other is for who asks for logs with insecureSkipTLSVerifyBackend.
func newKubelets(b *backends, ca *pki.Authority, own *pki.Shown) (verified, unverified http.RoundTripper) {
	return b.dialer.Transport(&tls.Config{RootCAs: ca.Pool(), GetClientCertificate: own.Certificate, MinVersion: tls.VersionTLS12}),
		b.dialer.Transport(&tls.Config{InsecureSkipVerify: true, GetClientCertificate: own.Certificate, MinVersion: tls.VersionTLS12}) //nolint:gosec // it was asked for
}
