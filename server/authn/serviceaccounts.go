package authn

import (
	"errors"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

// ServiceAccounts describes the tokens of a cluster's service accounts.
type ServiceAccounts struct {
	// Issuers are whom tokens may come from. The first signs new ones.
	Issuers []string
	// Keys are what tokens may be signed with.
	Keys serviceaccount.PublicKeysGetter
	// Lookup finds what a token is bound to, so that it stops working when that is gone. It must see what this replica
	// wrote, and should see what others wrote.
	Lookup serviceaccount.ServiceAccountTokenGetter
	// Secrets notes when a token from a Secret was last used. Without it such tokens are not accepted.
	Secrets corev1client.SecretsGetter
}

// tokens lists the authenticators of both kinds of tokens: from Secrets, and from the TokenRequest API.
func (s *ServiceAccounts) tokens(audiences authenticator.Audiences) ([]authenticator.Token, error) {
	if len(s.Issuers) == 0 || s.Keys == nil || s.Lookup == nil {
		return nil, errors.New("issuers, keys and a lookup of what tokens are bound to must be set")
	}
	var tokens []authenticator.Token
	if s.Secrets != nil {
		legacy, err := serviceaccount.NewLegacyValidator(true, s.Lookup, s.Secrets)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, serviceaccount.JWTTokenAuthenticator([]string{serviceaccount.LegacyIssuer}, s.Keys, audiences, legacy))
	}
	bound := serviceaccount.JWTTokenAuthenticator(s.Issuers, s.Keys, audiences, serviceaccount.NewValidator(s.Lookup))
	return append(tokens, bound), nil
}
