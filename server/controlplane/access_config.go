package controlplane

import (
	"slices"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"

	"github.com/rowlock-io/rowlock/server/authn"
)

// Access says who is believed beside the cluster's own authority, tokens and front proxy, and who decides what they may
// do. The zero value: nobody else, and Node with RBAC.
type Access struct {
	// Certificates, keys and deciders of the operator. They are about one cluster, the one at the root: they cannot tell
	// clusters apart, so that what they let into one they would let into all.
	ClientCAFile      string // PEM; read again when it changes
	FrontProxy        FrontProxy
	ServiceAccounts   ServiceAccountKeys
	Authorizers       []apiserver.AuthorizerConfiguration
	AuthorizationFile string // AuthorizationConfiguration, in place of Authorizers; read again when it changes
	PolicyFile        string // of the mode ABAC

	// People whom somebody else vouches for. They are believed by every cluster, whose own RBAC says what they may.
	JWT                []apiserver.JWTAuthenticator // valid ones
	JWTAlgorithms      []string                     // empty: all that are safe
	AuthenticationFile string                       // AuthenticationConfiguration, in place of JWT; read again when it changes
	TokenWebhook       authn.Webhook

	// Unaggregated leaves it to somebody else to fill ClusterRoles by their aggregationRules.
	Unaggregated bool

	BootstrapTokens bool     // tokens in Secrets of kube-system are believed
	APIAudiences    []string // empty: the issuers
	ShortTokens     bool     // tokens of pods end when they say; else they are good for a year, as long as old clients need
}

// FrontProxy describes proxies of the operator. Without a CAFile there are none.
type FrontProxy struct {
	CAFile                                                       string // PEM; read again when it changes
	AllowedNames                                                 []string
	UsernameHeaders, UIDHeaders, GroupHeaders, ExtraHeaderPrefix []string
}

// ServiceAccountKeys are keys of service-account tokens that the operator brings, beside the cluster's own.
type ServiceAccountKeys struct {
	SigningKeyFile string   // signs in place of the cluster's own key
	KeyFiles       []string // verify, beside the cluster's own
	Issuers        []string // further issuers whose tokens are accepted
	KeysURL        string   // where others find the keys; empty: at this server
	Signer         *ExternalSigner
}

// hosted is what remains for clusters that are not at the root.
func (a Access) hosted() Access {
	return Access{
		JWT: a.JWT, JWTAlgorithms: a.JWTAlgorithms, AuthenticationFile: a.AuthenticationFile, TokenWebhook: a.TokenWebhook,
		BootstrapTokens: a.BootstrapTokens, APIAudiences: a.APIAudiences, ShortTokens: a.ShortTokens,
		Unaggregated:    a.Unaggregated,
		ServiceAccounts: ServiceAccountKeys{Issuers: a.ServiceAccounts.Issuers},
	}
}

// issuers are whom service-account tokens may come from; the first signs.
func (c *ControlPlane) issuers() []string {
	return append([]string{c.cfg.Issuer}, c.cfg.Access.ServiceAccounts.Issuers...)
}

// tokenFile has tokens of people whom this cluster believes. It may put them into any group, and so it is about the
// operator's cluster, like the authorities and keys of files.
func (c *ControlPlane) tokenFile() string {
	if c.cfg.Operator || c.cfg.HostedTokens {
		return c.cfg.TokenFile
	}
	return ""
}

// audiences are what tokens for this API are meant for.
func (a *access) audiences(c *ControlPlane) authenticator.Audiences {
	if len(a.cfg.APIAudiences) > 0 {
		return slices.Clone(a.cfg.APIAudiences)
	}
	return c.issuers()
}
