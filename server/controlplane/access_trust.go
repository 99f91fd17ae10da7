package controlplane

import (
	"context"
	"fmt"

	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/util/keyutil"

	"github.com/rowlock-io/rowlock/server/authn"
	"github.com/rowlock-io/rowlock/server/pki"
)

// follow reads a bundle of authorities, now and whenever it changes.
func (a *access) follow(purpose, file string) (dynamiccertificates.CAContentProvider, error) {
	content, err := dynamiccertificates.NewDynamicCAContentFromFile(purpose, file)
	if err != nil {
		return nil, err
	}
	a.runs = append(a.runs, func(ctx context.Context) error {
		content.Run(ctx, 1)
		return nil
	})
	return content, nil
}

// clientCAs are the authorities whose certificates clients may show, the cluster's own first.
func (a *access) clientCAs(c *ControlPlane) ([]dynamiccertificates.CAContentProvider, error) {
	own, err := dynamiccertificates.NewStaticCAContent("client-ca", c.identity.ClusterCA.Bundle())
	if err != nil {
		return nil, fmt.Errorf("client authority: %w", err)
	}
	all := []dynamiccertificates.CAContentProvider{own}
	if a.cfg.ClientCAFile != "" {
		more, err := a.follow("client-ca-bundle", a.cfg.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("client authority: %w", err)
		}
		all = append(all, more)
	}
	return all, nil
}

// frontProxies are the proxies that may say who a user is: the cluster's own, which is itself, first.
func (a *access) frontProxies(c *ControlPlane) ([]*authenticatorfactory.RequestHeaderConfig, error) {
	own, err := dynamiccertificates.NewStaticCAContent("front-proxy-ca", c.identity.FrontProxyCA.Bundle())
	if err != nil {
		return nil, fmt.Errorf("front-proxy authority: %w", err)
	}
	all := []*authenticatorfactory.RequestHeaderConfig{{
		CAContentProvider:   own,
		AllowedClientNames:  headerrequest.StaticStringSlice{pki.FrontProxy().User},
		UsernameHeaders:     headerrequest.StaticStringSlice{"X-Remote-User"},
		UIDHeaders:          headerrequest.StaticStringSlice{"X-Remote-Uid"},
		GroupHeaders:        headerrequest.StaticStringSlice{"X-Remote-Group"},
		ExtraHeaderPrefixes: headerrequest.StaticStringSlice{"X-Remote-Extra-"},
	}}
	if p := a.cfg.FrontProxy; p.CAFile != "" {
		ca, err := a.follow("request-header", p.CAFile)
		if err != nil {
			return nil, fmt.Errorf("front-proxy authority: %w", err)
		}
		all = append(all, &authenticatorfactory.RequestHeaderConfig{
			CAContentProvider:   ca,
			AllowedClientNames:  headerrequest.StaticStringSlice(p.AllowedNames),
			UsernameHeaders:     headerrequest.StaticStringSlice(p.UsernameHeaders),
			UIDHeaders:          headerrequest.StaticStringSlice(p.UIDHeaders),
			GroupHeaders:        headerrequest.StaticStringSlice(p.GroupHeaders),
			ExtraHeaderPrefixes: headerrequest.StaticStringSlice(p.ExtraHeaderPrefix),
		})
	}
	return all, nil
}

// operatorProxy describes the headers of the operator's proxies, or of the own one, which nobody behind the authentication
// is to see.
func (a *access) operatorProxy() *authenticatorfactory.RequestHeaderConfig {
	return a.proxies[len(a.proxies)-1]
}

// newIssuer sets up who signs service-account tokens.
func (a *access) newIssuer(c *ControlPlane) error {
	keys := a.cfg.ServiceAccounts
	cfg := authn.IssuerConfig{
		URL: c.cfg.Issuer, Signing: c.identity.ServiceAccountKey(), KeysURL: keys.KeysURL, ExternalAddress: c.externalAddress(),
	}
	if cfg.KeysURL == "" && c.cfg.Path != "" {
		// At the root are another cluster's keys.
		cfg.KeysURL = "https://" + c.externalAddress() + c.cfg.Path + authn.KeySetPath
	}
	var undiscoverable, err error
	if keys.SigningKeyFile != "" {
		if cfg.Signing, err = keyutil.PrivateKeyFromFile(keys.SigningKeyFile); err != nil {
			return fmt.Errorf("service-account signing key: %w", err)
		}
	}
	if cfg.Trusted, err = authn.PublicKeys(c.identity.ServiceAccountPublicKeys(), keys.KeyFiles...); err != nil {
		return err
	}
	keys.Signer.into(&cfg)
	a.issuer, undiscoverable, err = authn.NewIssuer(cfg)
	if err != nil {
		return err
	}
	if undiscoverable != nil {
		c.cfg.Log.Warn("Issuer of service-account tokens cannot be discovered", "err", undiscoverable)
	}
	return nil
}
