package authz_test

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/rowlock-io/rowlock/server/authz"
)

// part allows one user, denies another, and has no opinion on the rest.
type part struct{ allow, deny string }

func (p part) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	switch a.GetUser().GetName() {
	case p.allow:
		return authorizer.DecisionAllow, "allowed by part", nil
	case p.deny:
		return authorizer.DecisionDeny, "denied by part", nil
	}
	return authorizer.DecisionNoOpinion, "unknown to part", nil
}

func (p part) RulesFor(context.Context, user.Info, string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	return []authorizer.ResourceRuleInfo{&authorizer.DefaultResourceRuleInfo{Verbs: []string{p.allow}}}, nil, false, nil
}

func TestChain(t *testing.T) {
	t.Parallel()
	parts := map[string]authz.Part{
		authz.ModeNode: part{allow: "node", deny: "ann"},
		authz.ModeRBAC: part{allow: "ann", deny: "node"},
	}
	resource := authorizer.AttributesRecord{ResourceRequest: true, Path: "/healthz"}
	health := authorizer.AttributesRecord{Path: "/healthz/ping"}
	for name, tc := range map[string]struct {
		modes  []string
		paths  []string
		user   user.DefaultInfo
		attrs  authorizer.AttributesRecord
		want   authorizer.Decision
		reason string
	}{
		"RBAC and Node by default": {nil, nil, user.DefaultInfo{Name: "ann"}, resource, authorizer.DecisionDeny, "denied by part"},
		"order decides":            {[]string{"Node", "RBAC"}, nil, user.DefaultInfo{Name: "ann"}, resource, authorizer.DecisionDeny, "denied by part"},
		"order decides, too":       {[]string{"RBAC", "Node"}, nil, user.DefaultInfo{Name: "ann"}, resource, authorizer.DecisionAllow, "allowed by part"},
		"nobody knows":             {[]string{"RBAC", "Node"}, nil, user.DefaultInfo{Name: "eve"}, resource, authorizer.DecisionNoOpinion, "unknown to part\nunknown to part"},
		"masters":                  {[]string{"AlwaysDeny"}, nil, user.DefaultInfo{Groups: []string{"system:masters"}}, resource, authorizer.DecisionAllow, ""},
		"always allow":             {[]string{"AlwaysAllow"}, nil, user.DefaultInfo{Name: "eve"}, resource, authorizer.DecisionAllow, ""},
		"path":                     {nil, []string{"/healthz/*"}, user.DefaultInfo{Name: "eve"}, health, authorizer.DecisionAllow, ""},
		"path is for paths only":   {nil, []string{"/healthz"}, user.DefaultInfo{Name: "eve"}, resource, authorizer.DecisionNoOpinion, "unknown to part\nunknown to part"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := authz.New(authz.Config{Authorizers: authz.Modes(tc.modes...), Parts: parts, AlwaysAllowPaths: tc.paths})
			if err != nil {
				t.Fatal(err)
			}
			tc.attrs.User = &tc.user
			got, reason, err := a.Authorize(t.Context(), tc.attrs)
			if got != tc.want || reason != tc.reason || err != nil {
				t.Errorf("got %v %q %v, want %v %q", got, reason, err, tc.want, tc.reason)
			}
		})
	}
}

func TestRulesOfAllParts(t *testing.T) {
	t.Parallel()
	resolver, err := authz.New(authz.Config{
		Authorizers: authz.Modes(authz.ModeNode, authz.ModeRBAC),
		Parts:       map[string]authz.Part{authz.ModeNode: part{allow: "a"}, authz.ModeRBAC: part{allow: "b"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	rules, _, _, err := resolver.RulesFor(t.Context(), &user.DefaultInfo{}, "")
	if err != nil || len(rules) != 2 {
		t.Errorf("got %d rules, %v; want one of each part", len(rules), err)
	}
}

func TestRefusesBadConfig(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		config authz.Config
		want   []string
	}{
		"unknown, absent and double": {authz.Config{Authorizers: authz.Modes("Magic", "Node", "AlwaysDeny", "AlwaysDeny")}, []string{`"Magic" must be one of`, `"Node" is not available`, `"AlwaysDeny" may not be given twice`}},
		"no RBAC":                    {authz.Config{}, []string{`"RBAC" is not available`}},
		"star inside a path":         {authz.Config{Authorizers: authz.Modes("AlwaysDeny"), AlwaysAllowPaths: []string{"/a*b"}}, []string{"always allowed paths", "trailing *"}},
	} {
		_, err := authz.New(tc.config)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
	}
}
