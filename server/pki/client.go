package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"
)

// Lifetime is how long serving and client certificates are valid unless something else is asked for.
const Lifetime = 365 * 24 * time.Hour

// Client says who a client certificate stands for.
type Client struct {
	User     string        // the certificate's common name
	Groups   []string      // the certificate's organizations
	Lifetime time.Duration // 0: Lifetime
}

// Admin returns the client that may do everything, by its group and whatever RBAC says.
func Admin() Client { return Client{User: "kubernetes-admin", Groups: []string{"system:masters"}} }

// FrontProxy returns the client that the aggregation layer calls extension servers as. FrontProxyCA issues it.
func FrontProxy() Client { return Client{User: "front-proxy-client"} }

// IssueClient issues a client certificate.
func (a *Authority) IssueClient(c Client) (*KeyPair, error) {
	if c.User == "" {
		return nil, errors.New("issue client certificate: user name is empty")
	}
	lifetime := c.Lifetime
	if lifetime <= 0 {
		lifetime = Lifetime
	}
	pair, err := a.issue(x509.Certificate{
		Subject:     pkix.Name{CommonName: c.User, Organization: c.Groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, lifetime)
	if err != nil {
		return nil, fmt.Errorf("issue client certificate for %q: %w", c.User, err)
	}
	return pair, nil
}
