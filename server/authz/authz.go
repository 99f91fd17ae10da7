// Package authz puts together who may do what in one cluster: the order of authorizers that upstream's
// --authorization-mode describes, behind the group that may do everything.
package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
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
	ModeNode    = "Node"
	ModeRBAC    = "RBAC"
	ModeWebhook = "Webhook"
)

// Part is what stands behind a mode.
type Part interface {
	authorizer.Authorizer
	authorizer.RuleResolver
}

// Config says what a cluster's requests are judged by.
type Config struct {
	// Modes are asked in this order until one allows or denies. Empty: RBAC.
	Modes []string
	// Parts are what the modes other than AlwaysAllow and AlwaysDeny stand for.
	Parts map[string]Part
	// AlwaysAllowPaths are non-resource paths, with "*" allowed at the end, that anybody may ask for.
	AlwaysAllowPaths []string
}

// Validate reports all that is wrong with a config.
func (c Config) Validate() error {
	var errs []error
	for i, mode := range c.Modes {
		switch mode {
		case ModeAlwaysAllow, ModeAlwaysDeny:
		case ModeNode, ModeRBAC, ModeWebhook:
			if c.Parts[mode] == nil {
				errs = append(errs, fmt.Errorf("authorization mode %q is not available", mode))
			}
		default:
			errs = append(errs, fmt.Errorf("authorization mode %q must be one of %s", mode,
				strings.Join([]string{ModeAlwaysAllow, ModeAlwaysDeny, ModeNode, ModeRBAC, ModeWebhook}, ", ")))
		}
		if slices.Contains(c.Modes[:i], mode) {
			errs = append(errs, fmt.Errorf("authorization mode %q may not be given twice", mode))
		}
	}
	return errors.Join(errs...)
}

// New returns the authorizer of a cluster, and what answers questions about all that a user may do.
func New(c Config) (authorizer.Authorizer, authorizer.RuleResolver, error) {
	if len(c.Modes) == 0 {
		c.Modes = []string{ModeRBAC}
	}
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	// Members of this group were given their certificate by whoever holds the cluster's authority. They get in even when
	// RBAC locks everybody out, and before it is there.
	chain := []authorizer.Authorizer{authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)}
	if len(c.AlwaysAllowPaths) > 0 {
		paths, err := path.NewAuthorizer(c.AlwaysAllowPaths)
		if err != nil {
			return nil, nil, fmt.Errorf("always allowed paths: %w", err)
		}
		chain = append(chain, paths)
	}
	var resolvers []authorizer.RuleResolver
	for _, mode := range c.Modes {
		part := c.part(mode)
		chain = append(chain, metrics.InstrumentedAuthorizer(mode, strings.ToLower(mode), part))
		resolvers = append(resolvers, part)
	}
	return union.New(chain...), union.NewRuleResolvers(resolvers...), nil
}

func (c Config) part(mode string) Part {
	switch mode {
	case ModeAlwaysAllow:
		return authorizerfactory.NewAlwaysAllowAuthorizer()
	case ModeAlwaysDeny:
		return authorizerfactory.NewAlwaysDenyAuthorizer()
	default:
		return c.Parts[mode]
	}
}
