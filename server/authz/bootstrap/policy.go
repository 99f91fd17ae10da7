// Package bootstrap gives a cluster upstream's default roles and bindings, and keeps them complete over upgrades.
//
// What they are, and how an existing role is brought up to date without taking away what an operator added, comes from
// upstream. Objects annotated rbac.authorization.kubernetes.io/autoupdate=false are left alone.
//
// Upstream also moves roles and bindings of clusters older than 1.14 to their present names. There is no Rowlock cluster
// that old.
package bootstrap

import (
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// Policy is the objects that every cluster should have. They have neither a type nor anything that a server sets.
type Policy struct {
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
	Roles               []*rbacv1.Role        // by namespace
	RoleBindings        []*rbacv1.RoleBinding // by namespace
}

// NewPolicy returns upstream's policy. The caller owns it.
func NewPolicy() *Policy {
	var p Policy
	for _, r := range slices.Concat(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()) {
		p.ClusterRoles = append(p.ClusterRoles, &r)
	}
	for _, b := range slices.Concat(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()) {
		p.ClusterRoleBindings = append(p.ClusterRoleBindings, &b)
	}
	// Upstream keeps one copy of the namespaced ones, shared by all callers.
	roles := bootstrappolicy.NamespaceRoles()
	for _, ns := range slices.Sorted(maps.Keys(roles)) {
		for i := range roles[ns] {
			p.Roles = append(p.Roles, roles[ns][i].DeepCopy())
		}
	}
	bindings := bootstrappolicy.NamespaceRoleBindings()
	for _, ns := range slices.Sorted(maps.Keys(bindings)) {
		for i := range bindings[ns] {
			p.RoleBindings = append(p.RoleBindings, bindings[ns][i].DeepCopy())
		}
	}
	return &p
}

// Objects returns all of them, roles before the bindings that refer to them: what a cluster without any is to be given.
func (p *Policy) Objects() []runtime.Object {
	var all []runtime.Object
	for _, o := range p.ClusterRoles {
		all = append(all, o)
	}
	for _, o := range p.Roles {
		all = append(all, o)
	}
	for _, o := range p.ClusterRoleBindings {
		all = append(all, o)
	}
	for _, o := range p.RoleBindings {
		all = append(all, o)
	}
	return all
}

// Namespaces returns the namespaces that must exist before the policy can be ensured.
func (p *Policy) Namespaces() []string {
	var names []string
	for _, r := range p.Roles {
		names = append(names, r.Namespace)
	}
	for _, b := range p.RoleBindings {
		names = append(names, b.Namespace)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
