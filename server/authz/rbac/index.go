package rbac

import (
	"context"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// index is what was granted at one revision of the source. The cluster's part is complete; namespaces are added as they
// are asked about.
type index struct {
	revision   uint64
	cluster    *bindings
	namespaces sync.Map // name → *bindings, without those that hold nothing, so that it is bounded by what is granted
}

// index returns an index that is at least as new as the source was when it was called.
func (a *Authorizer) index(ctx context.Context) *index {
	if ix := a.current.Load(); ix != nil && ix.revision == a.source.Revision() {
		return ix
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// The revision is read before the objects: when they change in between, the index is newer than it says and is
	// made once more, which is harmless.
	revision := a.source.Revision()
	if ix := a.current.Load(); ix != nil && ix.revision == revision {
		return ix
	}
	ix := &index{revision: revision, cluster: a.clusterBindings(context.WithoutCancel(ctx))}
	if ix.cluster.lasting {
		a.current.Store(ix)
	}
	return ix
}

// namespace returns what the role bindings of a namespace grant.
func (a *Authorizer) namespace(ctx context.Context, ix *index, name string) *bindings {
	if b, ok := ix.namespaces.Load(name); ok {
		return b.(*bindings)
	}
	b := a.namespaceBindings(context.WithoutCancel(ctx), name)
	// What was read is at least as new as the index. Keeping it there is right as long as the source has not moved: if
	// it has, nobody will look at this index again.
	if b.lasting && !b.empty() {
		ix.namespaces.Store(name, b)
	}
	return b
}

func (a *Authorizer) clusterBindings(ctx context.Context) *bindings {
	list, err := a.source.ListClusterRoleBindings(ctx)
	if err != nil {
		return &bindings{err: err}
	}
	b := newBindings(len(list))
	for order, binding := range list {
		rules, err := a.resolve(ctx, b, binding.RoleRef, "")
		for i, subject := range binding.Subjects {
			b.add(subject, "", &grant{
				order: order, rules: rules, err: err,
				only: only{clusterBinding: binding, position: i},
			})
		}
	}
	return b
}

func (a *Authorizer) namespaceBindings(ctx context.Context, namespace string) *bindings {
	list, err := a.source.ListRoleBindings(ctx, namespace)
	if err != nil {
		return &bindings{err: err}
	}
	if len(list) == 0 {
		return &bindings{lasting: true}
	}
	b := newBindings(len(list))
	for order, binding := range list {
		rules, err := a.resolve(ctx, b, binding.RoleRef, namespace)
		for i, subject := range binding.Subjects {
			b.add(subject, namespace, &grant{
				order: order, rules: rules, err: err,
				only: only{binding: binding, position: i},
			})
		}
	}
	return b
}

// resolve looks a role up. That a role does not exist stays true until something changes; any other trouble may pass
// unnoticed, so bindings that ran into it are not kept.
func (a *Authorizer) resolve(ctx context.Context, b *bindings, ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	rules, err := a.resolver.GetRoleReferenceRules(ctx, ref, namespace)
	known := ref.Kind == "Role" || ref.Kind == "ClusterRole"
	if err != nil && known && !apierrors.IsNotFound(err) {
		b.lasting = false
	}
	return rules, err
}
