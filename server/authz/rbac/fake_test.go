package rbac_test

import (
	"context"
	"slices"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// cluster is a Source. Tests change it between decisions and then raise revision.
type cluster struct {
	roles               []*rbacv1.Role
	roleBindings        []*rbacv1.RoleBinding
	clusterRoles        []*rbacv1.ClusterRole
	clusterRoleBindings []*rbacv1.ClusterRoleBinding
	revision            uint64

	lists    atomic.Int64 // how often something was listed
	listErr  error
	roleErrs map[string]error // by name of a cluster role
}

func (c *cluster) Revision() uint64 { return c.revision }

func (c *cluster) GetRole(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	i := slices.IndexFunc(c.roles, func(r *rbacv1.Role) bool { return r.Namespace == namespace && r.Name == name })
	if i < 0 {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "roles"}, name)
	}
	return c.roles[i], nil
}

func (c *cluster) GetClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	if err := c.roleErrs[name]; err != nil {
		return nil, err
	}
	i := slices.IndexFunc(c.clusterRoles, func(r *rbacv1.ClusterRole) bool { return r.Name == name })
	if i < 0 {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterroles"}, name)
	}
	return c.clusterRoles[i], nil
}

func (c *cluster) ListRoleBindings(_ context.Context, namespace string) ([]*rbacv1.RoleBinding, error) {
	c.lists.Add(1)
	var list []*rbacv1.RoleBinding
	for _, b := range c.roleBindings {
		if b.Namespace == namespace {
			list = append(list, b)
		}
	}
	return list, c.listErr
}

func (c *cluster) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	c.lists.Add(1)
	return c.clusterRoleBindings, c.listErr
}
