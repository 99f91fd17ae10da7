package controlplane

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/auth/authorizer/abac"
	bootstraptoken "k8s.io/kubernetes/plugin/pkg/auth/authenticator/token/bootstrap"

	"github.com/rowlock-io/rowlock/server/authn"
	"github.com/rowlock-io/rowlock/server/authz"
	"github.com/rowlock-io/rowlock/server/authz/aggregation"
	rbacbootstrap "github.com/rowlock-io/rowlock/server/authz/bootstrap"
	"github.com/rowlock-io/rowlock/server/authz/node"
	"github.com/rowlock-io/rowlock/server/authz/rbac"
)

// access is who may come in and what they may do.
type access struct {
	*authn.Authenticator
	cfg        Access
	authorizer *authz.Authorizer
	issuer     *authn.Issuer
	proxies    []*authenticatorfactory.RequestHeaderConfig
	bootstrap  func(context.Context, kubernetes.Interface) error
	runs       []func(context.Context) error // what works while the cluster does
}

func newAccess(c *ControlPlane) (*access, error) {
	a := &access{cfg: c.cfg.Access}
	if !c.cfg.Operator {
		a.cfg = a.cfg.hosted()
	}
	if err := a.authorize(c); err != nil {
		return nil, fmt.Errorf("authorization: %w", err)
	}
	if err := a.authenticate(c); err != nil {
		return nil, fmt.Errorf("authentication: %w", err)
	}
	return a, nil
}

// run makes the parts work until ctx ends.
func (a *access) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range a.runs {
		g.Go(func() error { return run(ctx) })
	}
	return g.Wait()
}

// authorize sets up who decides.
func (a *access) authorize(c *ControlPlane) error {
	source := newRBACSource(c.informers)
	nodes := node.New(c.clients.kube)
	a.runs = append(a.runs, nodes.Run)
	parts := map[string]authz.Part{authz.ModeNode: nodes, authz.ModeRBAC: afterRBAC{rbac.New(source), source}}
	if a.cfg.PolicyFile != "" {
		policies, err := abac.NewFromFile(a.cfg.PolicyFile)
		if err != nil {
			return err
		}
		parts[authz.ModeABAC] = policies
	}
	var err error
	if a.authorizer, err = authz.New(authz.Config{Authorizers: a.cfg.Authorizers, Parts: parts}); err != nil {
		return err
	}
	if a.cfg.AuthorizationFile != "" {
		file, err := authz.OpenFile(a.cfg.AuthorizationFile, c.cfg.Name, a.authorizer, c.cfg.Log)
		if err != nil {
			return err
		}
		a.runs = append(a.runs, file.Run)
	}
	if !a.cfg.Unaggregated {
		a.runs = append(a.runs, func(ctx context.Context) error { return a.aggregate(ctx, c, source) })
	}
	a.bootstrap = func(ctx context.Context, client kubernetes.Interface) error {
		defer source.ensured() // whatever came of it, nobody need wait any longer
		return ensureRoles(ctx, rbacbootstrap.Config{Reader: source, Client: client.RbacV1(), Log: c.cfg.Log})
	}
	return nil
}

// ensureRoles makes the default roles and bindings, and returns when the authorizer's informers show them: whoever is told
// that the cluster is ready is not to be refused what they allow.
func ensureRoles(ctx context.Context, cfg rbacbootstrap.Config) error {
	policy := rbacbootstrap.NewPolicy()
	for {
		done, err := policy.Ensure(ctx, cfg)
		if err != nil || done.Created+done.Updated+done.Recreated == 0 {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// aggregate fills ClusterRoles when the first ones are there, which come together.
func (a *access) aggregate(ctx context.Context, c *ControlPlane, source *rbacSource) error {
	select {
	case <-c.bootstrapped:
	case <-ctx.Done():
		return nil
	}
	return aggregation.Run(ctx, aggregation.Config{
		Roles: source.clusterRoles, Client: c.clients.kube.RbacV1(), Changed: source.aggregate, Log: c.cfg.Log,
	})
}

// authenticate sets up who is believed: certificates of the cluster's authority, its own tokens, the front proxy, and
// whom the operator names beside them.
func (a *access) authenticate(c *ControlPlane) error {
	if err := a.newIssuer(c); err != nil {
		return err
	}
	clients, err := a.clientCAs(c)
	if err != nil {
		return err
	}
	if a.proxies, err = a.frontProxies(c); err != nil {
		return err
	}
	anonymous := apiserver.AnonymousAuthConfig{Enabled: c.cfg.Anonymous}
	jwt := authn.JWTConfig{
		Authenticators: a.cfg.JWT, Algorithms: a.cfg.JWTAlgorithms, Audiences: a.audiences(c), Taken: c.issuers(), ID: c.cfg.Name, Log: c.cfg.Log,
	}
	if a.cfg.AuthenticationFile != "" {
		if jwt.File, err = authn.OpenFile(a.cfg.AuthenticationFile, c.cfg.Name, jwt.Taken, c.cfg.Log); err != nil {
			return err
		}
		jwt.Authenticators = jwt.File.Config().JWT
		if said := jwt.File.Config().Anonymous; said != nil {
			anonymous = *said
		}
	}
	cfg := authn.Config{
		ClientCAs: clients, FrontProxies: a.proxies, TokenFile: c.tokenFile(),
		ServiceAccounts: &authn.ServiceAccounts{
			Issuers: c.issuers(), Keys: a.issuer.Keys, Lookup: lookup{c.clients.kube}, Secrets: c.clients.kube.CoreV1(),
		},
		Anonymous: anonymous, APIAudiences: a.audiences(c),
	}
	if a.cfg.BootstrapTokens {
		cfg.Bootstrap = bootstraptoken.NewTokenAuthenticator(bootstrapSecrets{c.clients.kube})
	}
	if len(jwt.Authenticators) > 0 || jwt.File != nil {
		tokens := authn.NewJWT(jwt)
		a.runs = append(a.runs, tokens.Run)
		cfg.Tokens = append(cfg.Tokens, tokens)
	}
	if a.cfg.TokenWebhook.File != "" {
		hook, err := authn.NewWebhook(a.cfg.TokenWebhook, a.audiences(c))
		if err != nil {
			return err
		}
		cfg.Tokens = append(cfg.Tokens, hook)
	}
	a.Authenticator, err = authn.New(cfg)
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
