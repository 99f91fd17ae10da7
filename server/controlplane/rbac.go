package controlplane

import (
	"context"
	"sync"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	listers "k8s.io/client-go/listers/rbac/v1"
	toolscache "k8s.io/client-go/tools/cache"
)

// rbacSource is the RBAC objects of the cluster as its informers know them.
type rbacSource struct {
	roles               listers.RoleLister
	bindings            listers.RoleBindingLister
	clusterRoles        listers.ClusterRoleLister
	clusterRoleBindings listers.ClusterRoleBindingLister
	revision            atomic.Uint64
	aggregate           chan struct{}     // a ClusterRole changed: others may gain or lose rules
	known               []<-chan struct{} // closed when all of a kind are there, and when the defaults were ensured
	ensured             func()            // tells that they were
	whole               atomic.Bool       // all of known are closed
}

func newRBACSource(f informers.SharedInformerFactory) *rbacSource {
	in := f.Rbac().V1()
	s := &rbacSource{
		roles: in.Roles().Lister(), bindings: in.RoleBindings().Lister(),
		clusterRoles: in.ClusterRoles().Lister(), clusterRoleBindings: in.ClusterRoleBindings().Lister(),
		aggregate: make(chan struct{}, 1),
	}
	defaults := make(chan struct{})
	s.known, s.ensured = append(s.known, defaults), sync.OnceFunc(func() { close(defaults) })
	// Handlers run after the listers show the change.
	changed := toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { s.revision.Add(1) },
		UpdateFunc: func(any, any) { s.revision.Add(1) },
		DeleteFunc: func(any) { s.revision.Add(1) },
	}
	for _, informer := range []toolscache.SharedIndexInformer{
		in.Roles().Informer(), in.RoleBindings().Informer(), in.ClusterRoles().Informer(), in.ClusterRoleBindings().Informer(),
	} {
		if handled, err := informer.AddEventHandler(changed); err == nil { // fails only on a stopped informer
			s.known = append(s.known, handled.HasSyncedChecker().Done())
		}
	}
	wake := func() {
		select {
		case s.aggregate <- struct{}{}:
		default: // it is to look anyway
		}
	}
	_, _ = in.ClusterRoles().Informer().AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { wake() }, UpdateFunc: func(any, any) { wake() }, DeleteFunc: func(any) { wake() },
	})
	return s
}

func (s *rbacSource) Revision() uint64 { return s.revision.Load() }

func (s *rbacSource) GetRole(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	return s.roles.Roles(namespace).Get(name)
}

func (s *rbacSource) GetClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	return s.clusterRoles.Get(name)
}

func (s *rbacSource) ListRoleBindings(_ context.Context, namespace string) ([]*rbacv1.RoleBinding, error) {
	return s.bindings.RoleBindings(namespace).List(labels.Everything())
}

func (s *rbacSource) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	return s.clusterRoleBindings.List(labels.Everything())
}
