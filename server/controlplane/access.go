package controlplane

import (
	"context"
	"fmt"

	"github.com/go-chi/chi/v5"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/token/tokenfile"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/rowlock-io/rowlock/server/authz"
	rbacbootstrap "github.com/rowlock-io/rowlock/server/authz/bootstrap"
	"github.com/rowlock-io/rowlock/server/authz/rbac"
)

// access is who may come in and what they may do.
type access struct {
	authenticator authenticator.Request
	authorizer    authorizer.Authorizer
	rules         authorizer.RuleResolver
	tokens        serviceaccount.TokenGenerator
	bootstrap     func(context.Context, kubernetes.Interface) error
}

func newAccess(_ context.Context, c *ControlPlane) (*access, error) {
	a := &access{}
	source := newRBACSource(c.informers)
	roles := rbac.New(source)
	var err error
	a.authorizer, a.rules, err = authz.New(authz.Config{
		Parts:            map[string]authz.Part{authz.ModeRBAC: roles},
		AlwaysAllowPaths: []string{"/healthz", "/readyz", "/livez"},
	})
	if err != nil {
		return nil, fmt.Errorf("authorization: %w", err)
	}
	opts := x509.DefaultVerifyOptions()
	opts.Roots = c.identity.ClusterCA.Pool()
	ways := []authenticator.Request{x509.New(opts, x509.CommonNameUserConversion)}
	if c.cfg.TokenFile != "" {
		f, err := tokenfile.NewCSV(c.cfg.TokenFile)
		if err != nil {
			return nil, err
		}
		ways = append(ways, bearertoken.New(f))
	}
	a.authenticator = union.NewFailOnError(group.NewAuthenticatedGroupAdder(union.New(ways...)), anonymous.NewAuthenticator(nil))
	a.tokens, err = serviceaccount.JWTTokenGenerator(c.cfg.Issuer, c.identity.ServiceAccountKey())
	if err != nil {
		return nil, fmt.Errorf("service-account tokens: %w", err)
	}
	a.bootstrap = func(ctx context.Context, client kubernetes.Interface) error {
		_, err := rbacbootstrap.NewPolicy().Ensure(ctx, rbacbootstrap.Config{Reader: source, Client: client.RbacV1(), Log: c.cfg.Log})
		return err
	}
	return a, nil
}

func (a *access) install(chi.Router) {}
func (a *access) paths() []string    { return nil }
