package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/apis/apiserver"
	kubeoptions "k8s.io/kubernetes/pkg/kubeapiserver/options"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/rowlock-io/rowlock/server/authn"
	"github.com/rowlock-io/rowlock/server/controlplane"
)

// accessOptions are the flags that say who is believed and who decides. They are upstream's own, so that their names,
// meanings and what is said of wrong values are the same. What upstream requires and the cluster has by itself, such as
// keys of service-account tokens, is optional.
type accessOptions struct {
	authentication  *kubeoptions.BuiltInAuthenticationOptions
	authorization   *kubeoptions.BuiltInAuthorizationOptions
	signingKeyFile  string
	signingEndpoint string
	aggregate       bool
}

func newAccessOptions() accessOptions {
	o := accessOptions{
		authentication: kubeoptions.NewBuiltInAuthenticationOptions().WithAll(),
		authorization:  kubeoptions.NewBuiltInAuthorizationOptions(),
	}
	o.authentication.ServiceAccounts.Issuers = []string{"https://kubernetes.default.svc.cluster.local"}
	o.authentication.BootstrapToken.Enable = true // machines join with tokens
	o.authorization.Modes = []string{"Node", "RBAC"}
	return o
}

func (o *accessOptions) addFlags(fs *pflag.FlagSet) {
	if o.authentication == nil {
		*o = newAccessOptions()
	}
	o.authentication.AddFlags(fs)
	o.authorization.AddFlags(fs)
	fs.BoolVar(&o.aggregate, "aggregate-cluster-roles", true, "fill ClusterRoles by their aggregationRules, which a controller manager does in other clusters")
	fs.StringVar(&o.signingKeyFile, "service-account-signing-key-file", "", "file of the private key that signs service-account tokens (default: the cluster's own key)")
	fs.StringVar(&o.signingEndpoint, "service-account-signing-endpoint", "", "path of the socket, or @ and the name of an abstract socket, at which an external signer signs service-account tokens, in place of the cluster's own key")
	for name, usage := range map[string]string{
		"authorization-mode":       "who decides, in this order, until one allows or denies: AlwaysAllow, AlwaysDeny, ABAC, Webhook, RBAC, Node",
		"service-account-key-file": "file of public or private keys that service-account tokens are verified with, beside the cluster's own; may be given several times",
		"token-auth-file":          "file of static tokens: lines of token, user, UID and, quoted, groups; believed by the cluster at the root only",
		"client-ca-file":           "file of authorities whose client certificates are believed, beside the cluster's own; read again when it changes",
		"authentication-config":    "file with an AuthenticationConfiguration: OpenID Connect issuers, and which paths anonymous requests may ask for; issuers are read again when it changes",
		"authorization-config":     "file with an AuthorizationConfiguration, in place of --authorization-mode and --authorization-webhook-*; read again when it changes",
	} {
		fs.Lookup(name).Usage = usage
	}
	// Accepted flags must do something: tokens are always checked against what they are bound to.
	_ = fs.MarkHidden("service-account-lookup")
}

// validate reports everything that is wrong at once.
func (o *accessOptions) validate() error {
	authentication := *o.authentication
	accounts := *authentication.ServiceAccounts
	if len(accounts.KeyFiles) == 0 {
		if accounts.ExternalPublicKeysGetter, _ = serviceaccount.StaticPublicKeysGetter(nil); o.signingKeyFile != "" {
			return errors.New("service-account-key-file must be specified when service-account-signing-key-file is")
		}
	}
	authentication.ServiceAccounts = &accounts
	errs := authentication.Validate()
	if !accounts.Lookup {
		errs = append(errs, errors.New("--service-account-lookup may not be switched off: tokens of what was deleted would go on working"))
	}
	if d := accounts.MaxExpiration; d != 0 && (d < time.Hour || d > (1<<32)*time.Second) {
		errs = append(errs, errors.New("the service-account-max-token-expiration must be between 1 hour and 2^32 seconds"))
	}
	errs = append(errs, o.validateSigner())
	return errors.Join(append(errs, o.authorization.Validate()...)...)
}

// apply puts the flags into the configuration of clusters.
func (o *accessOptions) apply(cfg *controlplane.Config) error {
	in := *o.authentication
	in.ApplyAuthorization(o.authorization)
	cfg.TokenFile, cfg.Anonymous = in.TokenFile.TokenFile, in.Anonymous.Allow
	accounts := in.ServiceAccounts
	cfg.Issuer, cfg.TokenLifetime = accounts.Issuers[0], accounts.MaxExpiration
	a := controlplane.Access{
		ClientCAFile: in.ClientCert.ClientCA,
		FrontProxy: controlplane.FrontProxy{
			CAFile: in.RequestHeader.ClientCAFile, AllowedNames: in.RequestHeader.AllowedNames,
			UsernameHeaders: in.RequestHeader.UsernameHeaders, UIDHeaders: in.RequestHeader.UIDHeaders,
			GroupHeaders: in.RequestHeader.GroupHeaders, ExtraHeaderPrefix: in.RequestHeader.ExtraHeaderPrefixes,
		},
		ServiceAccounts: controlplane.ServiceAccountKeys{
			SigningKeyFile: o.signingKeyFile, KeyFiles: accounts.KeyFiles, Issuers: accounts.Issuers[1:], KeysURL: accounts.JWKSURI,
		},
		AuthenticationFile: in.AuthenticationConfigFile,
		TokenWebhook:       authn.Webhook{File: in.WebHook.ConfigFile, Version: in.WebHook.Version, TTL: in.WebHook.CacheTTL},
		BootstrapTokens:    in.BootstrapToken.Enable,
		APIAudiences:       in.APIAudiences,
		ShortTokens:        !accounts.ExtendExpiration,
		Unaggregated:       !o.aggregate,
	}
	var err error
	if in.AuthenticationConfigFile == "" && in.OIDC.IssuerURL != "" {
		if a.JWT, a.JWTAlgorithms, err = o.issuer(); err != nil {
			return err
		}
	}
	if o.authorization.AuthorizationConfigurationFile != "" {
		a.AuthorizationFile = o.authorization.AuthorizationConfigurationFile
	} else {
		authorization, err := o.authorization.ToAuthorizationConfig(nil)
		if err != nil {
			return err
		}
		a.Authorizers, a.PolicyFile = authorization.AuthorizationConfiguration.Authorizers, authorization.PolicyFile
	}
	cfg.Access = a
	return nil
}

// issuer is what the --oidc-* flags say, as upstream reads them.
func (o *accessOptions) issuer() ([]apiserver.JWTAuthenticator, []string, error) {
	only := kubeoptions.BuiltInAuthenticationOptions{
		OIDC:            o.authentication.OIDC,
		ServiceAccounts: &kubeoptions.ServiceAccountAuthenticationOptions{Issuers: o.authentication.ServiceAccounts.Issuers},
	}
	cfg, err := only.ToAuthenticationConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("--oidc-*: %w", err)
	}
	return cfg.AuthenticationConfig.JWT, cfg.OIDCSigningAlgs, nil
}
