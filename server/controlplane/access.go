package controlplane

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/go-chi/chi/v5"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/authn"
	"github.com/rowlock-io/rowlock/server/authz"
	rbacbootstrap "github.com/rowlock-io/rowlock/server/authz/bootstrap"
	"github.com/rowlock-io/rowlock/server/authz/rbac"
	"github.com/rowlock-io/rowlock/server/pki"
)

// access is who may come in and what they may do.
type access struct {
	*authn.Authenticator
	authorizer authorizer.Authorizer
	rules      authorizer.RuleResolver
	issuer     *authn.Issuer
	bootstrap  func(context.Context, kubernetes.Interface) error
}

func newAccess(c *ControlPlane) (*access, error) {
	a := &access{}
	source := newRBACSource(c.informers)
	var err error
	a.authorizer, a.rules, err = authz.New(authz.Config{Parts: map[string]authz.Part{authz.ModeRBAC: rbac.New(source)}})
	if err != nil {
		return nil, fmt.Errorf("authorization: %w", err)
	}
	a.bootstrap = func(ctx context.Context, client kubernetes.Interface) error {
		_, err := rbacbootstrap.NewPolicy().Ensure(ctx, rbacbootstrap.Config{Reader: source, Client: client.RbacV1(), Log: c.cfg.Log})
		return err
	}
	if err := a.authenticate(c); err != nil {
		return nil, err
	}
	return a, nil
}

// authenticate sets up who is believed: certificates of the cluster's authority, its own tokens, and the front proxy.
func (a *access) authenticate(c *ControlPlane) error {
	var undiscoverable, err error
	a.issuer, undiscoverable, err = authn.NewIssuer(authn.IssuerConfig{
		URL: c.cfg.Issuer, Signing: c.identity.ServiceAccountKey(), Trusted: c.identity.ServiceAccountPublicKeys(),
		ExternalAddress: c.externalAddress(),
	})
	if err != nil {
		return err
	}
	if undiscoverable != nil {
		c.cfg.Log.Warn("Issuer of service-account tokens cannot be discovered", "err", undiscoverable)
	}
	clients, err := dynamiccertificates.NewStaticCAContent("client-ca", c.identity.ClusterCA.Bundle())
	if err != nil {
		return fmt.Errorf("client authority: %w", err)
	}
	proxies, err := dynamiccertificates.NewStaticCAContent("front-proxy-ca", c.identity.FrontProxyCA.Bundle())
	if err != nil {
		return fmt.Errorf("front-proxy authority: %w", err)
	}
	a.Authenticator, err = authn.New(authn.Config{
		ClientCAs: []dynamiccertificates.CAContentProvider{clients},
		FrontProxy: &authenticatorfactory.RequestHeaderConfig{
			CAContentProvider:   proxies,
			AllowedClientNames:  headerrequest.StaticStringSlice{pki.FrontProxy().User},
			UsernameHeaders:     headerrequest.StaticStringSlice{"X-Remote-User"},
			UIDHeaders:          headerrequest.StaticStringSlice{"X-Remote-Uid"},
			GroupHeaders:        headerrequest.StaticStringSlice{"X-Remote-Group"},
			ExtraHeaderPrefixes: headerrequest.StaticStringSlice{"X-Remote-Extra-"},
		},
		TokenFile: c.cfg.TokenFile,
		ServiceAccounts: &authn.ServiceAccounts{
			Issuers: []string{c.cfg.Issuer}, Keys: a.issuer.Keys, Lookup: lookup{c.clients.kube}, Secrets: c.clients.kube.CoreV1(),
		},
		Anonymous: apiserver.AnonymousAuthConfig{Enabled: c.cfg.Anonymous},
	})
	return err
}

// install puts the documents by which others verify the cluster's tokens.
func (a *access) install(r chi.Router) []string {
	r.Handle(authn.ConfigurationPath, document([]string{runtime.ContentTypeJSON}, a.issuer.Configuration()))
	r.Handle(authn.KeySetPath, document([]string{"application/jwk-set+json"}, a.issuer.KeySet()))
	return []string{authn.ConfigurationPath, authn.KeySetPath}
}

// externalAddress is where clients outside find this replica.
func (c *ControlPlane) externalAddress() string {
	host := "127.0.0.1"
	if c.cfg.Advertise != nil {
		host = c.cfg.Advertise.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(c.cfg.Port))
}
