package controlplane

import (
	"time"

	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/rowlock-io/rowlock/server/authn"
)

// ExternalSigner signs service-account tokens with keys that are elsewhere, in place of the cluster's own.
type ExternalSigner struct {
	Tokens      serviceaccount.TokenGenerator
	Keys        serviceaccount.PublicKeysGetter // all that tokens are verified with
	MaxLifetime time.Duration                   // of a token
}

// into makes the signer the issuer's, if there is one.
func (s *ExternalSigner) into(cfg *authn.IssuerConfig) {
	if s != nil {
		cfg.Signer, cfg.Keys = s.Tokens, s.Keys
	}
}

// tokenLifetimes are the longest that a token may be asked for, 0 being without bound, and that tokens of pods are
// lengthened to.
func (c *ControlPlane) tokenLifetimes() (longest, extended time.Duration) {
	longest, extended = c.cfg.TokenLifetime, serviceaccount.ExpirationExtensionSeconds*time.Second
	if s := c.access.cfg.ServiceAccounts.Signer; s != nil {
		if longest == 0 || longest > s.MaxLifetime {
			longest = s.MaxLifetime
		}
		extended = min(extended, s.MaxLifetime)
	}
	return longest, extended
}
