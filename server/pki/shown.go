package pki

import (
	"crypto/tls"
	"sync"
	"time"
)

// Shown is a client certificate that the server shows to others. It is made when it is needed first, and anew when a third of its life is
// left. It is safe for concurrent use.
type Shown struct {
	authority *Authority
	client    Client

	mu      sync.Mutex
	current *tls.Certificate
}

// NewShown returns one that is not made yet.
func NewShown(a *Authority, c Client) *Shown { return &Shown{authority: a, client: c} }

// Certificate is for tls.Config.GetClientCertificate.
func (s *Shown) Certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && time.Until(s.current.Leaf.NotAfter) > Lifetime/3 {
		return s.current, nil
	}
	pair, err := s.authority.IssueClient(s.client)
	if err != nil {
		return nil, err
	}
	s.current = &pair.TLS
	return s.current, nil
}
