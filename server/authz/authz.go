// Package authz puts together who may do what in one cluster: the order of authorizers that upstream's
// --authorization-mode or AuthorizationConfiguration describes, behind the group that may do everything.
package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/apiserver/pkg/authorization/metrics"
	"k8s.io/apiserver/pkg/authorization/path"
	"k8s.io/apiserver/pkg/authorization/union"
)

// Modes that need no part.
const (
	ModeAlwaysAllow = "AlwaysAllow"
	ModeAlwaysDeny  = "AlwaysDeny"
)

// Modes that a Config supplies the part for.
const (
	ModeNode = "Node"
	ModeRBAC = "RBAC"
	ModeABAC = "ABAC"
)

// ModeWebhook asks another server, which its AuthorizerConfiguration names.
const ModeWebhook = string(apiserver.TypeWebhook)

// Part is what stands behind a mode.
type Part interface {
	authorizer.Authorizer
	authorizer.RuleResolver
}

// Config says what a cluster's requests are judged by.
type Config struct {
	// Authorizers are asked in this order until one allows or denies. Empty: Node, then RBAC.
	Authorizers []apiserver.AuthorizerConfiguration
	// Parts are what the modes Node, RBAC and ABAC stand for.
	Parts map[string]Part
	// AlwaysAllowPaths are non-resource paths, with "*" allowed at the end, that anybody may ask for.
	AlwaysAllowPaths []string
}

// Modes are authorizers that need no more than a name.
func Modes(modes ...string) []apiserver.AuthorizerConfiguration {
	var all []apiserver.AuthorizerConfiguration
	for _, mode := range modes {
		all = append(all, apiserver.AuthorizerConfiguration{Type: apiserver.AuthorizerType(mode), Name: strings.ToLower(mode)})
	}
	return all
}

// Validate reports all that is wrong with a config.
func (c Config) Validate() error {
	var errs []error
	for i, a := range c.Authorizers {
		mode := string(a.Type)
		switch mode {
		case ModeAlwaysAllow, ModeAlwaysDeny:
		case ModeNode, ModeRBAC, ModeABAC:
			if c.Parts[mode] == nil {
				errs = append(errs, fmt.Errorf("authorization mode %q is not available", mode))
			}
		case ModeWebhook:
			if a.Webhook == nil {
				errs = append(errs, fmt.Errorf("authorization mode %q needs a webhook", mode))
			}
			continue // as many as one likes
		default:
			errs = append(errs, fmt.Errorf("authorization mode %q must be one of %s", mode,
				strings.Join([]string{ModeAlwaysAllow, ModeAlwaysDeny, ModeABAC, ModeNode, ModeRBAC, ModeWebhook}, ", ")))
		}
		if slices.ContainsFunc(c.Authorizers[:i], func(b apiserver.AuthorizerConfiguration) bool { return a.Type == b.Type }) {
			errs = append(errs, fmt.Errorf("authorization mode %q may not be given twice", mode))
		}
	}
	return errors.Join(errs...)
}

// Authorizer judges a cluster's requests, and answers questions about all that a user may do. Whom it asks may be
// replaced while it is used.
type Authorizer struct {
	parts    map[string]Part
	paths    authorizer.Authorizer            // nil: none
	compiler func() authorizationcel.Compiler // of match conditions; made at the first webhook, since it is large

	current atomic.Pointer[chain]
}

// chain is one order of authorizers.
type chain struct {
	authorizer.Authorizer
	rules authorizer.RuleResolver
}

var _ Part = (*Authorizer)(nil)

// New returns the authorizer of a cluster.
func New(c Config) (*Authorizer, error) {
	a := &Authorizer{parts: c.Parts, compiler: sync.OnceValue(authorizationcel.NewDefaultCompiler)}
	if len(c.AlwaysAllowPaths) > 0 {
		paths, err := path.NewAuthorizer(c.AlwaysAllowPaths)
		if err != nil {
			return nil, fmt.Errorf("always allowed paths: %w", err)
		}
		a.paths = paths
	}
	return a, a.Set(c.Authorizers)
}

// Set replaces who is asked. On an error everything stays as it was.
func (a *Authorizer) Set(authorizers []apiserver.AuthorizerConfiguration) error {
	if len(authorizers) == 0 {
		authorizers = Modes(ModeNode, ModeRBAC)
	}
	if err := (Config{Authorizers: authorizers, Parts: a.parts}).Validate(); err != nil {
		return err
	}
	// Members of this group were given their certificate by whoever holds the cluster's authority. They get in even when
	// RBAC locks everybody out, and before it is there.
	all := []authorizer.Authorizer{authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)}
	if a.paths != nil {
		all = append(all, a.paths)
	}
	var resolvers []authorizer.RuleResolver
	for _, configured := range authorizers {
		part, err := a.part(configured)
		if err != nil {
			return fmt.Errorf("authorizer %q: %w", configured.Name, err)
		}
		all = append(all, metrics.InstrumentedAuthorizer(string(configured.Type), configured.Name, part))
		resolvers = append(resolvers, part)
	}
	a.current.Store(&chain{union.New(all...), union.NewRuleResolvers(resolvers...)})
	return nil
}

func (a *Authorizer) part(c apiserver.AuthorizerConfiguration) (Part, error) {
	switch string(c.Type) {
	case ModeAlwaysAllow:
		return authorizerfactory.NewAlwaysAllowAuthorizer(), nil
	case ModeAlwaysDeny:
		return authorizerfactory.NewAlwaysDenyAuthorizer(), nil
	case ModeWebhook:
		return newWebhook(c, a.compiler())
	default:
		return a.parts[string(c.Type)], nil
	}
}

// Authorize implements authorizer.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	return a.current.Load().Authorize(ctx, attrs)
}

// RulesFor implements authorizer.RuleResolver.
func (a *Authorizer) RulesFor(ctx context.Context, who user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	return a.current.Load().rules.RulesFor(ctx, who, namespace)
}
