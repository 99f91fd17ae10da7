package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/certificate"
)

// ErrNoCertificate: nobody has approved the node's request for a serving certificate yet.
var ErrNoCertificate = errors.New("join: no serving certificate available for the node: its certificate signing request is not approved yet")

// Serving is the certificate that the node's own server shows. It is asked for when the node's addresses are known, again when
// they have changed, and in time before it expires.
type Serving struct {
	manager certificate.Manager
}

// Serving makes one. It lives until ctx ends. addresses are those of the Node's status; none: they are not known yet.
func (m *Member) Serving(ctx context.Context, client kubernetes.Interface, addresses func() []corev1.NodeAddress) (*Serving, error) {
	manager, err := certificate.NewManager(&certificate.Config{
		Name: "node serving certificate", SignerName: certificatesv1.KubeletServingSignerName,
		GetTemplate:      func() *x509.CertificateRequest { return servingRequest(m.cfg.Node, addresses()) },
		GetUsages:        certificate.DefaultKubeletServingGetUsages,
		CertificateStore: told{&store{path: m.path(servingFile)}, m.cfg.Log, "serving"},
		ClientsetFn:      func(*tls.Certificate) (kubernetes.Interface, error) { return client, nil },
		Ctx:              &ctx, CertificateRenewFailure: m.servingFailures(), CertificateRotation: m.rotations(),
	})
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	m.countDown(servingLife, manager)
	manager.Start() // it ends with its context; upstream has nothing to wait for
	return &Serving{manager}, nil
}

// GetCertificate is for tls.Config.
func (s *Serving) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := s.manager.Current(); cert != nil {
		return cert, nil
	}
	return nil, ErrNoCertificate
}

// servingRequest asks for a certificate with the names and addresses of a node; nil: it has none yet.
func servingRequest(node string, addresses []corev1.NodeAddress) *x509.CertificateRequest {
	r := &x509.CertificateRequest{Subject: subject(node)}
	for _, a := range addresses {
		ip := net.ParseIP(a.Address)
		switch a.Type {
		case corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName, corev1.NodeInternalDNS, corev1.NodeExternalDNS:
			switch {
			case a.Address == "":
			case ip != nil:
				r.IPAddresses = append(r.IPAddresses, ip)
			case a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP:
				r.DNSNames = append(r.DNSNames, a.Address)
			}
		}
	}
	if len(r.IPAddresses) == 0 {
		return nil // as kubelets: a name alone is what a node begins with
	}
	slices.Sort(r.DNSNames)
	r.DNSNames = slices.Compact(r.DNSNames)
	slices.SortFunc(r.IPAddresses, func(a, b net.IP) int { return strings.Compare(a.String(), b.String()) })
	r.IPAddresses = slices.CompactFunc(r.IPAddresses, net.IP.Equal)
	return r
}
