package rbac

import (
	"context"
	"fmt"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	rbacv1helpers "k8s.io/kubernetes/pkg/apis/rbac/v1"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"
)

// grant is what one subject of one binding gets.
type grant struct {
	order int // of the binding among those of its scope
	rules []rbacv1.PolicyRule
	err   error // of finding the rules
	only  only
	text  atomic.Pointer[granted] // made when first asked for: most grants are never named
}

// granted says in words why, and in a sentence why that allows a request.
type granted struct{ source, reason string }

func (t *granted) String() string { return t.source }

func (g *grant) source(ctx context.Context) fmt.Stringer { return g.words(ctx) }

func (g *grant) reason(ctx context.Context) string { return g.words(ctx).reason }

func (g *grant) words(ctx context.Context) *granted {
	if t := g.text.Load(); t != nil {
		return t
	}
	t := &granted{}
	// Upstream words it: it is asked about a cluster in which there is nothing but this grant.
	validation.NewDefaultRuleResolver(g.only, g.only, g.only, g.only).VisitRulesFor(ctx, g.only.user(), g.only.namespace(),
		func(source fmt.Stringer, _ *rbacv1.PolicyRule, _ error) bool {
			t.source = source.String()
			return false
		})
	t.reason = "RBAC: allowed by " + t.source
	g.text.Store(t)
	return t
}

// request is the part of the attributes that rules look at, read once.
type request struct {
	resource                                             bool
	verb, group, combined, subresource, objectName, path string
}

func newRequest(attrs authorizer.Attributes) request {
	r := request{resource: attrs.IsResourceRequest(), verb: attrs.GetVerb()}
	if !r.resource {
		r.path = attrs.GetPath()
		return r
	}
	r.group, r.subresource, r.objectName = attrs.GetAPIGroup(), attrs.GetSubresource(), attrs.GetName()
	r.combined = attrs.GetResource()
	if r.subresource != "" {
		r.combined += "/" + r.subresource
	}
	return r
}

func (g *grant) allows(r *request) bool {
	for i := range g.rules {
		rule := &g.rules[i]
		if !rbacv1helpers.VerbMatches(rule, r.verb) {
			continue
		}
		if !r.resource {
			if rbacv1helpers.NonResourceURLMatches(rule, r.path) {
				return true
			}
			continue
		}
		if rbacv1helpers.APIGroupMatches(rule, r.group) &&
			rbacv1helpers.ResourceMatches(rule, r.combined, r.subresource) &&
			rbacv1helpers.ResourceNameMatches(rule, r.objectName) {
			return true
		}
	}
	return false
}

// only is a cluster in which one binding with one subject grants one rule.
type only struct {
	clusterBinding *rbacv1.ClusterRoleBinding
	binding        *rbacv1.RoleBinding // when clusterBinding is nil
	position       int                 // of the subject in the binding
}

func (o only) subject() rbacv1.Subject {
	if o.clusterBinding != nil {
		return o.clusterBinding.Subjects[o.position]
	}
	return o.binding.Subjects[o.position]
}

func (o only) namespace() string {
	if o.clusterBinding != nil {
		return ""
	}
	return o.binding.Namespace
}

// user returns one that the subject is.
func (o only) user() user.Info {
	subject := o.subject()
	switch subject.Kind {
	case rbacv1.GroupKind:
		return &user.DefaultInfo{Groups: []string{subject.Name}}
	case rbacv1.ServiceAccountKind:
		ns := subject.Namespace
		if ns == "" {
			ns = o.namespace()
		}
		return &user.DefaultInfo{Name: serviceaccount.MakeUsername(ns, subject.Name)}
	default:
		return &user.DefaultInfo{Name: subject.Name}
	}
}

func (o only) rules() []rbacv1.PolicyRule { return make([]rbacv1.PolicyRule, 1) }

func (o only) GetRole(context.Context, string, string) (*rbacv1.Role, error) {
	return &rbacv1.Role{Rules: o.rules()}, nil
}

func (o only) GetClusterRole(context.Context, string) (*rbacv1.ClusterRole, error) {
	return &rbacv1.ClusterRole{Rules: o.rules()}, nil
}

func (o only) ListRoleBindings(context.Context, string) ([]*rbacv1.RoleBinding, error) {
	if o.binding == nil {
		return nil, nil
	}
	b := *o.binding
	b.Subjects = []rbacv1.Subject{o.subject()}
	return []*rbacv1.RoleBinding{&b}, nil
}

func (o only) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	if o.clusterBinding == nil {
		return nil, nil
	}
	b := *o.clusterBinding
	b.Subjects = []rbacv1.Subject{o.subject()}
	return []*rbacv1.ClusterRoleBinding{&b}, nil
}
