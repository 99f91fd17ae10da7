package bootstrap

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/auth/rbac/reconciliation"
)

// objectKey names a binding; the namespace of a cluster role binding is empty.
type objectKey struct{ namespace, name string }

// readBindings reads all bindings that may matter. A Reader only lists them.
func readBindings(ctx context.Context, r Reader, namespaces []string) (map[objectKey]reconciliation.RoleBinding, error) {
	found := map[objectKey]reconciliation.RoleBinding{}
	cluster, err := r.ListClusterRoleBindings(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range cluster {
		found[objectKey{"", b.Name}] = reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: b}
	}
	for _, ns := range namespaces {
		list, err := r.ListRoleBindings(ctx, ns)
		if err != nil {
			return nil, err
		}
		for _, b := range list {
			found[objectKey{ns, b.Name}] = reconciliation.RoleBindingAdapter{RoleBinding: b}
		}
	}
	return found, nil
}

// access is how upstream's reconciliation of one object reads and writes. Its interfaces take no context, so an access
// carries the one of the Ensure that it is made for.
type access struct {
	*ensurer
	ctx context.Context
	// cached says that the next read may be answered by the Reader. Upstream reads again when a write met something else
	// than had been read, and then it must see what is really there.
	cached bool
}

func (e *ensurer) access(ctx context.Context) *access {
	return &access{ensurer: e, ctx: ctx, cached: true}
}

func (a *access) mayUseCache() bool {
	once := a.cached
	a.cached = false
	return once
}

// roles implements upstream's access to roles of both scopes.
type roles struct{ *access }

func (a roles) Get(namespace, name string) (reconciliation.RuleOwner, error) {
	cached := a.mayUseCache()
	if namespace == "" {
		get := a.cfg.Client.ClusterRoles().Get
		if cached {
			get = func(ctx context.Context, name string, _ metav1.GetOptions) (*rbacv1.ClusterRole, error) {
				return a.cfg.Reader.GetClusterRole(ctx, name)
			}
		}
		return clusterRole(get(a.ctx, name, metav1.GetOptions{}))
	}
	get := a.cfg.Client.Roles(namespace).Get
	if cached {
		get = func(ctx context.Context, name string, _ metav1.GetOptions) (*rbacv1.Role, error) {
			return a.cfg.Reader.GetRole(ctx, namespace, name)
		}
	}
	return role(get(a.ctx, name, metav1.GetOptions{}))
}

func (a roles) Create(o reconciliation.RuleOwner) (reconciliation.RuleOwner, error) {
	switch o := o.(type) {
	case reconciliation.ClusterRoleRuleOwner:
		return clusterRole(a.cfg.Client.ClusterRoles().Create(a.ctx, o.ClusterRole, metav1.CreateOptions{}))
	case reconciliation.RoleRuleOwner:
		return role(a.cfg.Client.Roles(o.GetNamespace()).Create(a.ctx, o.Role, metav1.CreateOptions{}))
	}
	return nil, fmt.Errorf("create: unexpected %T", o)
}

func (a roles) Update(o reconciliation.RuleOwner) (reconciliation.RuleOwner, error) {
	switch o := o.(type) {
	case reconciliation.ClusterRoleRuleOwner:
		return clusterRole(a.cfg.Client.ClusterRoles().Update(a.ctx, o.ClusterRole, metav1.UpdateOptions{}))
	case reconciliation.RoleRuleOwner:
		return role(a.cfg.Client.Roles(o.GetNamespace()).Update(a.ctx, o.Role, metav1.UpdateOptions{}))
	}
	return nil, fmt.Errorf("update: unexpected %T", o)
}

func clusterRole(o *rbacv1.ClusterRole, err error) (reconciliation.RuleOwner, error) {
	return reconciliation.ClusterRoleRuleOwner{ClusterRole: o}, err
}

func role(o *rbacv1.Role, err error) (reconciliation.RuleOwner, error) {
	return reconciliation.RoleRuleOwner{Role: o}, err
}

// bindings implements upstream's access to bindings of both scopes.
type bindings struct{ *access }

func (a bindings) Get(namespace, name string) (reconciliation.RoleBinding, error) {
	if a.mayUseCache() {
		if b := a.bindings[objectKey{namespace, name}]; b != nil {
			return b, nil
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "rolebindings"}, name)
	}
	if namespace == "" {
		return clusterRoleBinding(a.cfg.Client.ClusterRoleBindings().Get(a.ctx, name, metav1.GetOptions{}))
	}
	return roleBinding(a.cfg.Client.RoleBindings(namespace).Get(a.ctx, name, metav1.GetOptions{}))
}

func (a bindings) Create(o reconciliation.RoleBinding) (reconciliation.RoleBinding, error) {
	switch o := o.(type) {
	case reconciliation.ClusterRoleBindingAdapter:
		return clusterRoleBinding(a.cfg.Client.ClusterRoleBindings().Create(a.ctx, o.ClusterRoleBinding, metav1.CreateOptions{}))
	case reconciliation.RoleBindingAdapter:
		return roleBinding(a.cfg.Client.RoleBindings(o.GetNamespace()).Create(a.ctx, o.RoleBinding, metav1.CreateOptions{}))
	}
	return nil, fmt.Errorf("create: unexpected %T", o)
}

func (a bindings) Update(o reconciliation.RoleBinding) (reconciliation.RoleBinding, error) {
	switch o := o.(type) {
	case reconciliation.ClusterRoleBindingAdapter:
		return clusterRoleBinding(a.cfg.Client.ClusterRoleBindings().Update(a.ctx, o.ClusterRoleBinding, metav1.UpdateOptions{}))
	case reconciliation.RoleBindingAdapter:
		return roleBinding(a.cfg.Client.RoleBindings(o.GetNamespace()).Update(a.ctx, o.RoleBinding, metav1.UpdateOptions{}))
	}
	return nil, fmt.Errorf("update: unexpected %T", o)
}

func (a bindings) Delete(namespace, name string, uid types.UID) error {
	opts := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
	if namespace == "" {
		return a.cfg.Client.ClusterRoleBindings().Delete(a.ctx, name, opts)
	}
	return a.cfg.Client.RoleBindings(namespace).Delete(a.ctx, name, opts)
}

func clusterRoleBinding(o *rbacv1.ClusterRoleBinding, err error) (reconciliation.RoleBinding, error) {
	return reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: o}, err
}

func roleBinding(o *rbacv1.RoleBinding, err error) (reconciliation.RoleBinding, error) {
	return reconciliation.RoleBindingAdapter{RoleBinding: o}, err
}
