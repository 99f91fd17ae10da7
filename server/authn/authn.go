// Package authn finds out who sent a request to one cluster: by client certificate, by bearer token, by the word of a
// front proxy, or not at all, which makes it anonymous.
//
// The methods, their order and what they say are upstream's. Ours is that nothing is package-level state, so that a
// process can serve clusters side by side, and that what was verified once for a connection is remembered.
package authn

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/token/cache"
	"k8s.io/apiserver/pkg/authentication/token/tokenfile"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// TokenCacheTTL is how long a token that was good is remembered, as upstream does: a deleted service account's token works
// for at most this long. That a token was bad is not remembered.
const TokenCacheTTL = 10 * time.Second

// Config says who is believed. Every part may be left out.
type Config struct {
	// ClientCAs issue the certificates of clients. What they trust may change at run time. They are tried in order; do
	// not pass a union of several, which upstream builds anew at every call.
	ClientCAs []dynamiccertificates.CAContentProvider
	// FrontProxies describe the proxies that may say who a user is.
	FrontProxies []*authenticatorfactory.RequestHeaderConfig
	// TokenFile is a CSV file of token, user, uid and, quoted, groups.
	TokenFile string
	// ServiceAccounts describes this cluster's own tokens.
	ServiceAccounts *ServiceAccounts
	// Bootstrap knows the tokens that nodes join with.
	Bootstrap authenticator.Token
	// Tokens are further ways to know a token, such as OpenID Connect or a webhook. They are asked last, as they may ask
	// somebody else.
	Tokens []authenticator.Token
	// Anonymous says for which paths a request need not say who sent it.
	Anonymous apiserver.AnonymousAuthConfig
	// APIAudiences are what tokens for this API are meant for. Empty: the issuers of service account tokens.
	APIAudiences authenticator.Audiences
}

// Authenticator is what New makes of a Config.
type Authenticator struct {
	// Request finds out who sent a request. Responses are shared: do not change them.
	Request authenticator.Request
	// Token finds out whose a token is. It is nil when no token is.
	Token authenticator.Token
	// APIAudiences are to be put on the context of every request.
	APIAudiences authenticator.Audiences
}

// New returns the authenticator of a cluster.
func New(c Config) (*Authenticator, error) {
	a := &Authenticator{APIAudiences: c.APIAudiences}
	if len(a.APIAudiences) == 0 && c.ServiceAccounts != nil {
		a.APIAudiences = slices.Clone(c.ServiceAccounts.Issuers)
	}
	var requests []authenticator.Request
	for _, proxy := range c.FrontProxies {
		requests = append(requests, authenticator.WrapAudienceAgnosticRequest(a.APIAudiences, newFrontProxy(proxy)))
	}
	if len(c.ClientCAs) > 0 {
		requests = append(requests, newCertificates(c.ClientCAs))
	}
	tokens, err := c.tokens(a.APIAudiences)
	if err != nil {
		return nil, err
	}
	if len(tokens) > 0 {
		a.Token = cache.New(tokenunion.New(tokens...), true, TokenCacheTTL, 0)
		requests = append(requests, bearertoken.New(a.Token), websocket.NewProtocolAuthenticator(a.Token))
	}
	switch {
	case len(requests) > 0:
		a.Request = group.NewAuthenticatedGroupAdder(union.New(requests...))
		if c.Anonymous.Enabled {
			// Whoever shows something that is wrong is refused, and not taken for anonymous.
			a.Request = union.NewFailOnError(a.Request, anonymous.NewAuthenticator(c.Anonymous.Conditions))
		}
	case c.Anonymous.Enabled:
		a.Request = anonymous.NewAuthenticator(c.Anonymous.Conditions)
	default:
		return nil, errors.New("no way to authenticate is configured")
	}
	return a, nil
}

// tokens lists who is asked about a token, the cheapest first.
func (c Config) tokens(audiences authenticator.Audiences) ([]authenticator.Token, error) {
	var tokens []authenticator.Token
	if c.TokenFile != "" {
		file, err := tokenfile.NewCSV(c.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("token file %s: %w", c.TokenFile, err)
		}
		tokens = append(tokens, authenticator.WrapAudienceAgnosticToken(audiences, file))
	}
	if c.ServiceAccounts != nil {
		accounts, err := c.ServiceAccounts.tokens(audiences)
		if err != nil {
			return nil, fmt.Errorf("service account tokens: %w", err)
		}
		tokens = append(tokens, accounts...)
	}
	if c.Bootstrap != nil {
		tokens = append(tokens, authenticator.WrapAudienceAgnosticToken(audiences, c.Bootstrap))
	}
	return append(tokens, c.Tokens...), nil
}

// newFrontProxy believes the headers of requests that come with a front proxy's certificate. Upstream verifies the
// certificate of every request by the front proxy's authority before it looks for the headers; without the headers the
// outcome does not matter.
func newFrontProxy(c *authenticatorfactory.RequestHeaderConfig) authenticator.Request {
	verified := headerrequest.NewDynamicVerifyOptionsSecure(
		c.CAContentProvider.VerifyOptions,
		c.AllowedClientNames, c.UsernameHeaders, c.UIDHeaders, c.GroupHeaders, c.ExtraHeaderPrefixes,
	)
	return authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
		for _, header := range c.UsernameHeaders.Value() {
			if req.Header.Get(header) != "" {
				return verified.AuthenticateRequest(req)
			}
		}
		return nil, false, nil
	})
}
