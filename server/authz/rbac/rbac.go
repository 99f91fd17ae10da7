// Package rbac decides by upstream's RBAC rules, at the price of a look-up.
//
// Upstream walks every binding of the cluster for each request. This package keeps an index from subjects to the rules
// that their bindings grant, and makes it anew when a role or a binding has changed. What a rule, a subject or a role
// reference means is still decided by upstream's code, and so are the reasons given: a property test holds the two
// together.
package rbac

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"
	upstream "k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"
)

// Source is the RBAC objects of one cluster, as this replica knows them. All methods are called often, must answer from
// memory, and return shared objects that nobody changes. Lists have the same order while Revision stays the same.
type Source interface {
	validation.RoleGetter
	validation.RoleBindingLister
	validation.ClusterRoleGetter
	validation.ClusterRoleBindingLister
	// Revision changes with every change of a Role, RoleBinding, ClusterRole or ClusterRoleBinding, and should not
	// change otherwise. What is read after Revision returned r is at least as new as r.
	Revision() uint64
}

// Authorizer decides requests and tells what a user may do. It is safe for concurrent use.
type Authorizer struct {
	source   Source
	resolver *validation.DefaultRuleResolver // upstream's, on the source itself
	rules    *upstream.RBACAuthorizer        // upstream's, on the source itself

	current atomic.Pointer[index]
	mu      sync.Mutex // held to replace current
}

var (
	_ authorizer.Authorizer                = (*Authorizer)(nil)
	_ authorizer.RuleResolver              = (*Authorizer)(nil)
	_ validation.AuthorizationRuleResolver = Resolver{}
)

// New returns an authorizer on a source.
func New(source Source) *Authorizer {
	return &Authorizer{
		source:   source,
		resolver: validation.NewDefaultRuleResolver(source, source, source, source),
		rules:    upstream.New(source, source, source, source),
	}
}

// Authorize allows, with upstream's reason, or has no opinion.
func (a *Authorizer) Authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	req := newRequest(attrs)
	var reason string
	var errs []error
	a.visit(ctx, attrs.GetUser(), attrs.GetNamespace(), func(g *grant, err error) bool {
		if err != nil {
			errs = append(errs, err)
			return true
		}
		if !g.allows(&req) {
			return true
		}
		reason = g.reason(ctx)
		return false
	})
	if reason != "" {
		return authorizer.DecisionAllow, reason, nil
	}
	if len(errs) > 0 {
		reason = fmt.Sprintf("RBAC: %v", utilerrors.NewAggregate(errs))
	}
	return authorizer.DecisionNoOpinion, reason, nil
}

// RulesFor answers SelfSubjectRulesReviews.
func (a *Authorizer) RulesFor(ctx context.Context, who user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	return a.rules.RulesFor(ctx, who, namespace)
}

// Resolver returns the authorizer's view of who has which rules, for the checks that keep a user from granting what
// they do not have.
func (a *Authorizer) Resolver() Resolver { return Resolver{a} }

// visit calls yield for each grant that applies to a user in a namespace, in upstream's order, and for each error on
// the way, until yield returns false.
func (a *Authorizer) visit(ctx context.Context, who user.Info, namespace string, yield func(*grant, error) bool) {
	ix := a.index(ctx)
	if !ix.cluster.visit(who, yield) || namespace == "" {
		return
	}
	a.namespace(ctx, ix, namespace).visit(who, yield)
}

// Resolver implements upstream's AuthorizationRuleResolver on the index.
type Resolver struct{ a *Authorizer }

// GetRoleReferenceRules returns the rules of a role.
func (r Resolver) GetRoleReferenceRules(ctx context.Context, ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	return r.a.resolver.GetRoleReferenceRules(ctx, ref, namespace)
}

// RulesFor returns the rules that apply to a user in a namespace, beside what went wrong while they were looked up.
func (r Resolver) RulesFor(ctx context.Context, who user.Info, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	var errs []error
	r.a.visit(ctx, who, namespace, func(g *grant, err error) bool {
		if err != nil {
			errs = append(errs, err)
		} else {
			rules = append(rules, g.rules...)
		}
		return true
	})
	return rules, utilerrors.NewAggregate(errs)
}

// VisitRulesFor calls visitor for each such rule and each error, until it returns false.
func (r Resolver) VisitRulesFor(ctx context.Context, who user.Info, namespace string, visitor func(source fmt.Stringer, rule *rbacv1.PolicyRule, err error) bool) {
	r.a.visit(ctx, who, namespace, func(g *grant, err error) bool {
		if err != nil {
			return visitor(nil, nil, err)
		}
		for i := range g.rules {
			if !visitor(g.source(ctx), &g.rules[i], nil) {
				return false
			}
		}
		return true
	})
}
