package pki

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Hosts returns the names and addresses that a cluster's API is reached by: this machine's own, the kubernetes Service
// with its address, and the others given. An empty domain is cluster.local. Empty hosts are left out and none is listed
// twice.
func Hosts(serviceIP net.IP, clusterDomain string, others ...string) []string {
	if clusterDomain == "" {
		clusterDomain = "cluster.local"
	}
	hosts := []string{
		"localhost", "127.0.0.1", "::1",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + clusterDomain,
	}
	if serviceIP != nil {
		hosts = append(hosts, serviceIP.String())
	}
	var unique []string
	for _, h := range append(hosts, others...) {
		if h != "" && !slices.Contains(unique, h) {
			unique = append(unique, h)
		}
	}
	return unique
}

// IssueServing issues a certificate that a server shows for the given host names and IP addresses.
func (a *Authority) IssueServing(hosts []string, lifetime time.Duration) (*KeyPair, error) {
	template := x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		if !validName(h) {
			return nil, fmt.Errorf("issue serving certificate: %q is neither an IP address nor a host name", h)
		}
		template.DNSNames = append(template.DNSNames, h)
	}
	pair, err := a.issue(template, lifetime)
	if err != nil {
		return nil, fmt.Errorf("issue serving certificate: %w", err)
	}
	return pair, nil
}

// validName is loose: it refuses what is not a host name at all, such as a URL, a port, or an address with a zone.
func validName(name string) bool {
	name = strings.TrimPrefix(name, "*.")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInName) {
			return false
		}
	}
	return true
}

func notInName(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
}

// Serving is a server's certificate, which stays fresh: it is issued anew when a third of its life is left, and when the
// hosts change. Established connections keep what they have. It is safe for concurrent use.
type Serving struct {
	ca       *Authority
	lifetime time.Duration

	mu      sync.Mutex
	hosts   []string
	current *tls.Certificate
}

// NewServing issues a serving certificate for the hosts.
func NewServing(ca *Authority, hosts []string) (*Serving, error) {
	s := &Serving{ca: ca, lifetime: Lifetime}
	if err := s.SetHosts(hosts); err != nil {
		return nil, err
	}
	return s, nil
}

// SetHosts changes what the certificate is for. On an error the old one stays.
func (s *Serving) SetHosts(hosts []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && slices.Equal(hosts, s.hosts) {
		return nil
	}
	return s.renew(slices.Clone(hosts))
}

// GetCertificate is for tls.Config.
func (s *Serving) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leaf := s.current.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if time.Until(leaf.NotAfter) < life/3 {
		if err := s.renew(s.hosts); err != nil {
			return nil, err
		}
	}
	return s.current, nil
}

// renew is called with mu held.
func (s *Serving) renew(hosts []string) error {
	pair, err := s.ca.IssueServing(hosts, s.lifetime)
	if err != nil {
		return err
	}
	s.hosts, s.current = hosts, &pair.TLS
	return nil
}
