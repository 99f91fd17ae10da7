package controlplane

import (
	"context"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/rowlock-io/rowlock/server/authz"
)

// afterRBAC asks RBAC when its objects are known: a cluster opens at its first request, and whoever sent that is not to be
// told that he may not because nobody has looked yet.
type afterRBAC struct {
	authz.Part
	source *rbacSource
}

// knownTimeout bounds the wait. After it nothing is allowed that is not known to be.
const knownTimeout = 10 * time.Second

// Authorize implements authorizer.Authorizer.
func (a afterRBAC) Authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	a.source.wait(ctx)
	return a.Part.Authorize(ctx, attrs)
}

// RulesFor implements authorizer.RuleResolver.
func (a afterRBAC) RulesFor(ctx context.Context, who user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	a.source.wait(ctx)
	return a.Part.RulesFor(ctx, who, namespace)
}

// wait returns when all RBAC objects are known, or when waiting is no use.
func (s *rbacSource) wait(ctx context.Context) {
	if s.whole.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, knownTimeout)
	defer cancel()
	for _, known := range s.known {
		select {
		case <-known:
		case <-ctx.Done():
			return
		}
	}
	s.whole.Store(true)
}
