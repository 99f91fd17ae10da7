package rbac_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"
	upstream "k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"github.com/rowlock-io/rowlock/server/authz/rbac"
)

// maker draws from few words, so that things meet often.
type maker struct{ *rand.Rand }

func (m maker) one(words ...string) string { return words[m.IntN(len(words))] }

// some returns one to n words.
func (m maker) some(n int, words ...string) []string {
	var out []string
	for range 1 + m.IntN(n) {
		out = append(out, m.one(words...))
	}
	return out
}

func (m maker) namespace() string { return m.one("red", "blue", "green") }
func (m maker) verb() string      { return m.one("get", "list", "create", "*", "") }
func (m maker) role() string      { return m.one("r1", "r2", "r3", "r4", "gone") }

func (m maker) rules() []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for range m.IntN(5) {
		rule := rbacv1.PolicyRule{Verbs: m.some(3, "get", "list", "create", "*")}
		if m.IntN(4) == 0 {
			rule.NonResourceURLs = m.some(2, "/healthz", "/healthz/*", "/api*", "*", "/")
		} else {
			rule.APIGroups = m.some(2, "", "apps", "*")
			rule.Resources = m.some(3, "pods", "pods/log", "*/log", "*/scale", "deployments", "*", "deployments/*")
			if m.IntN(3) == 0 {
				rule.ResourceNames = m.some(2, "a", "b", "")
			}
		}
		rules = append(rules, rule)
	}
	return rules
}

func (m maker) subjects() []rbacv1.Subject {
	var subjects []rbacv1.Subject
	for range m.IntN(6) {
		s := rbacv1.Subject{Kind: m.one(rbacv1.UserKind, rbacv1.GroupKind, rbacv1.ServiceAccountKind, "Robot")}
		s.Name = m.one("u1", "u2", "g1", "g2", "", "system:serviceaccount:red:u1")
		if s.Kind == rbacv1.ServiceAccountKind {
			s.Namespace = m.one("", "red", "blue")
		}
		subjects = append(subjects, s)
	}
	return subjects
}

func (m maker) cluster() *cluster {
	c := &cluster{revision: 1}
	for _, name := range []string{"r1", "r2", "r3", "r4"} {
		if m.IntN(4) > 0 {
			c.clusterRoles = append(c.clusterRoles, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: m.rules()})
		}
		for _, ns := range []string{"red", "blue"} {
			if m.IntN(2) > 0 {
				c.roles = append(c.roles, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Rules: m.rules()})
			}
		}
	}
	for i := range m.IntN(16) {
		m.bind(c, i)
	}
	return c
}

// bind adds a binding of either kind.
func (m maker) bind(c *cluster, i int) {
	ref := rbacv1.RoleRef{Kind: m.one("ClusterRole", "ClusterRole", "Role", "Roll"), Name: m.role()}
	meta := metav1.ObjectMeta{Name: fmt.Sprintf("b%d", i)}
	if m.IntN(2) == 0 {
		c.clusterRoleBindings = append(c.clusterRoleBindings, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: m.subjects()})
		return
	}
	meta.Namespace = m.namespace()
	c.roleBindings = append(c.roleBindings, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: m.subjects()})
}

func (m maker) attributes() authorizer.AttributesRecord {
	a := authorizer.AttributesRecord{
		User: &user.DefaultInfo{
			Name:   m.one("u1", "u2", "", "system:serviceaccount:red:u1", "system:serviceaccount:blue:u2"),
			Groups: m.some(3, "g1", "g2", "u1", ""),
		},
		Verb: m.verb(),
	}
	if m.IntN(5) == 0 {
		a.Path = m.one("/healthz", "/healthz/x", "/api/v1", "/", "")
		return a
	}
	a.ResourceRequest = true
	a.Namespace = m.one("red", "blue", "green", "none", "")
	a.APIGroup = m.one("", "apps")
	a.Resource = m.one("pods", "deployments")
	a.Subresource = m.one("", "", "log", "scale")
	a.Name = m.one("", "a", "b", "c")
	return a
}

// change does to a cluster what writers do, and keeps what is already handed out as it is.
func (m maker) change(c *cluster, i int) {
	c.revision++
	switch m.IntN(4) {
	case 0:
		m.bind(c, 100+i)
	case 1:
		if n := len(c.clusterRoleBindings); n > 0 {
			c.clusterRoleBindings = append([]*rbacv1.ClusterRoleBinding{}, c.clusterRoleBindings[1:]...)
		}
	case 2:
		if n := len(c.roleBindings); n > 0 {
			c.roleBindings = append([]*rbacv1.RoleBinding{}, c.roleBindings[:n-1]...)
		}
	case 3:
		if n := len(c.clusterRoles); n > 0 {
			changed := c.clusterRoles[m.IntN(n)].DeepCopy()
			changed.Rules = m.rules()
			c.clusterRoles = append([]*rbacv1.ClusterRole{changed}, c.clusterRoles...) // shadows the old one
		}
	}
}

// said is one call of a visitor.
type said struct {
	Source string
	Rule   *rbacv1.PolicyRule
	Err    string
}

func visits(r validation.AuthorizationRuleResolver, t *testing.T, a authorizer.Attributes, stopAfter int) []said {
	var all []said
	r.VisitRulesFor(t.Context(), a.GetUser(), a.GetNamespace(), func(source fmt.Stringer, rule *rbacv1.PolicyRule, err error) bool {
		s := said{Rule: rule}
		if source != nil {
			s.Source = source.String()
		}
		if err != nil {
			s.Err = err.Error()
		}
		all = append(all, s)
		return len(all) < stopAfter
	})
	return all
}

func TestAgreesWithUpstream(t *testing.T) {
	t.Parallel()
	first := rand.Uint64()
	var allowed, denied, failed int
	for seed := first; seed < first+400; seed++ {
		m := maker{rand.New(rand.NewPCG(seed, 0))}
		c := m.cluster()
		ours := rbac.New(c)
		theirs := upstream.New(c, c, c, c)
		resolver := validation.NewDefaultRuleResolver(c, c, c, c)
		for step := range 60 {
			if m.IntN(10) == 0 {
				m.change(c, step)
			}
			c.listErr = nil
			if m.IntN(50) == 0 {
				c.listErr = errors.New("away")
				c.revision++
			}
			attrs := m.attributes()
			wantDecision, wantReason, wantErr := theirs.Authorize(t.Context(), attrs)
			decision, reason, err := ours.Authorize(t.Context(), attrs)
			if decision != wantDecision || reason != wantReason || err != wantErr {
				t.Fatalf("seed %d step %d: %+v by %v:\ngot  %v %q %v\nwant %v %q %v",
					seed, step, attrs, attrs.User, decision, reason, err, wantDecision, wantReason, wantErr)
			}
			stop := 1 + m.IntN(6)
			if diff := cmp.Diff(visits(resolver, t, attrs, stop), visits(ours.Resolver(), t, attrs, stop)); diff != "" {
				t.Fatalf("seed %d step %d: VisitRulesFor (-upstream +ours):\n%s", seed, step, diff)
			}
			wantRules, wantErr := resolver.RulesFor(t.Context(), attrs.User, attrs.Namespace)
			rules, err := ours.Resolver().RulesFor(t.Context(), attrs.User, attrs.Namespace)
			if diff := cmp.Diff(wantRules, rules); diff != "" || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Fatalf("seed %d step %d: RulesFor: errors %v and %v, rules (-upstream +ours):\n%s", seed, step, wantErr, err, diff)
			}
			switch {
			case decision == authorizer.DecisionAllow:
				allowed++
			case reason != "":
				failed++
			default:
				denied++
			}
		}
	}
	if allowed < 800 || denied < 1000 || failed < 100 {
		t.Errorf("too tame: %d allowed, %d without an opinion, %d with errors", allowed, denied, failed)
	}
}
