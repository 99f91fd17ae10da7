package bootstrap_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	rbacv1fake "k8s.io/client-go/kubernetes/typed/rbac/v1/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/rowlock-io/rowlock/server/authz/bootstrap"
)

// server is a client on objects in memory, and a Reader that knows what was there when it was last synced.
type server struct {
	rbacv1fake.FakeRbacV1
	roles               map[string]*rbacv1.Role
	roleBindings        map[string][]*rbacv1.RoleBinding
	clusterRoles        map[string]*rbacv1.ClusterRole
	clusterRoleBindings []*rbacv1.ClusterRoleBinding
}

func newServer() *server {
	tracker := clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())
	s := &server{FakeRbacV1: rbacv1fake.FakeRbacV1{Fake: &clienttesting.Fake{}}}
	s.AddReactor("*", "*", clienttesting.ObjectReaction(tracker))
	return s
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (s *server) sync(ctx context.Context) {
	s.roles, s.clusterRoles = map[string]*rbacv1.Role{}, map[string]*rbacv1.ClusterRole{}
	s.roleBindings, s.clusterRoleBindings = map[string][]*rbacv1.RoleBinding{}, nil
	all := metav1.ListOptions{}
	for _, o := range must(s.Roles("").List(ctx, all)).Items {
		s.roles[o.Namespace+"/"+o.Name] = &o
	}
	for _, o := range must(s.RoleBindings("").List(ctx, all)).Items {
		s.roleBindings[o.Namespace] = append(s.roleBindings[o.Namespace], &o)
	}
	for _, o := range must(s.ClusterRoles().List(ctx, all)).Items {
		s.clusterRoles[o.Name] = &o
	}
	for _, o := range must(s.ClusterRoleBindings().List(ctx, all)).Items {
		s.clusterRoleBindings = append(s.clusterRoleBindings, &o)
	}
	s.ClearActions()
}

func (s *server) GetRole(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	if o := s.roles[namespace+"/"+name]; o != nil {
		return o, nil
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("roles"), name)
}

func (s *server) GetClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	if o := s.clusterRoles[name]; o != nil {
		return o, nil
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("clusterroles"), name)
}

func (s *server) ListRoleBindings(_ context.Context, namespace string) ([]*rbacv1.RoleBinding, error) {
	return s.roleBindings[namespace], nil
}

func (s *server) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	return s.clusterRoleBindings, nil
}

func ensure(t testing.TB, s *server) bootstrap.Summary {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	sum, err := bootstrap.NewPolicy().Ensure(t.Context(), bootstrap.Config{Reader: s, Client: s, Log: log})
	if err != nil {
		t.Fatalf("Ensure: %v", err)
	}
	return sum
}

// started returns a server on which Ensure has run once.
func started(t testing.TB) *server {
	t.Helper()
	s := newServer()
	ensure(t, s)
	s.sync(t.Context())
	return s
}

func TestFirstStartMakesAll(t *testing.T) {
	t.Parallel()
	policy := bootstrap.NewPolicy()
	s := newServer()
	sum := ensure(t, s)
	if diff := cmp.Diff(bootstrap.Summary{Created: len(policy.Objects())}, sum); diff != "" {
		t.Error(diff)
	}
	for _, action := range s.Actions() {
		if action.GetVerb() != "create" {
			t.Errorf("a first start did %s %s", action.GetVerb(), action.GetResource().Resource)
		}
	}
	s.sync(t.Context())
	for _, want := range policy.ClusterRoles {
		if diff := cmp.Diff(want, s.clusterRoles[want.Name]); diff != "" {
			t.Error(diff)
		}
	}
	for _, want := range policy.Roles {
		if diff := cmp.Diff(want, s.roles[want.Namespace+"/"+want.Name]); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff([]string{"kube-public", "kube-system"}, policy.Namespaces()); diff != "" {
		t.Error(diff)
	}
}

func TestLaterStartOnlyReadsTheCache(t *testing.T) {
	t.Parallel()
	s := started(t)
	sum := ensure(t, s)
	if diff := cmp.Diff(bootstrap.Summary{Unchanged: len(bootstrap.NewPolicy().Objects())}, sum); diff != "" {
		t.Error(diff)
	}
	if n := len(s.Actions()); n != 0 {
		t.Errorf("%d calls to the server, the first is %v", n, s.Actions()[0])
	}
}

func TestReconciles(t *testing.T) {
	t.Parallel()
	extra := rbacv1.PolicyRule{Verbs: []string{"dance"}, APIGroups: []string{"x"}, Resources: []string{"y"}}
	off := map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"}
	for name, tc := range map[string]struct {
		change func(*rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding)
		want   bootstrap.Summary // Unchanged is not compared
		check  func(*rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding) bool
	}{
		"rules are put back, others stay": {
			func(r *rbacv1.ClusterRole, _ *rbacv1.ClusterRoleBinding) { r.Rules = []rbacv1.PolicyRule{extra} },
			bootstrap.Summary{Updated: 1},
			func(r *rbacv1.ClusterRole, _ *rbacv1.ClusterRoleBinding) bool {
				return len(r.Rules) > 1 && cmp.Equal(r.Rules[0], extra)
			},
		},
		"labels are put back": {
			func(r *rbacv1.ClusterRole, _ *rbacv1.ClusterRoleBinding) { r.Labels = nil },
			bootstrap.Summary{Updated: 1},
			func(r *rbacv1.ClusterRole, _ *rbacv1.ClusterRoleBinding) bool { return len(r.Labels) > 0 },
		},
		"subjects are put back": {
			func(_ *rbacv1.ClusterRole, b *rbacv1.ClusterRoleBinding) { b.Subjects = nil },
			bootstrap.Summary{Updated: 1},
			func(_ *rbacv1.ClusterRole, b *rbacv1.ClusterRoleBinding) bool { return len(b.Subjects) == 1 },
		},
		"a binding to something else is made anew": {
			func(_ *rbacv1.ClusterRole, b *rbacv1.ClusterRoleBinding) { b.RoleRef.Name = "view" },
			bootstrap.Summary{Recreated: 1},
			func(_ *rbacv1.ClusterRole, b *rbacv1.ClusterRoleBinding) bool {
				return b.RoleRef.Name == "cluster-admin"
			},
		},
		"protected objects stay": {
			func(r *rbacv1.ClusterRole, b *rbacv1.ClusterRoleBinding) {
				r.Annotations, r.Rules = off, nil
				b.Annotations, b.Subjects = off, nil
			},
			bootstrap.Summary{Protected: 2},
			func(r *rbacv1.ClusterRole, b *rbacv1.ClusterRoleBinding) bool {
				return len(r.Rules)+len(b.Subjects) == 0
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ctx := started(t), t.Context()
			get := func() (*rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding) {
				return must(s.ClusterRoles().Get(ctx, "cluster-admin", metav1.GetOptions{})),
					must(s.ClusterRoleBindings().Get(ctx, "cluster-admin", metav1.GetOptions{}))
			}
			r, b := get()
			tc.change(r, b)
			must(s.ClusterRoles().Update(ctx, r, metav1.UpdateOptions{}))
			must(s.ClusterRoleBindings().Update(ctx, b, metav1.UpdateOptions{}))
			s.sync(ctx)
			sum := ensure(t, s)
			sum.Unchanged = 0
			if diff := cmp.Diff(tc.want, sum); diff != "" {
				t.Error(diff)
			}
			if r, b := get(); !tc.check(r, b) {
				t.Errorf("now there are %+v and %+v", r, b)
			}
		})
	}
}

func TestReplicasAtOnce(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.sync(t.Context()) // both find nothing in their caches
	var wg sync.WaitGroup
	sums := make([]bootstrap.Summary, 2)
	for i := range sums {
		wg.Go(func() { sums[i] = ensure(t, s) })
	}
	wg.Wait()
	all := len(bootstrap.NewPolicy().Objects())
	if got := sums[0].Created + sums[1].Created; got != all {
		t.Errorf("%d were created of %d: %+v", got, all, sums)
	}
	if got := sums[0].Unchanged + sums[1].Unchanged; got != all {
		t.Errorf("%d were found to be there already, want %d: %+v", got, all, sums)
	}
}

func TestConflictsAreTriedAgain(t *testing.T) {
	t.Parallel()
	s, ctx := started(t), t.Context()
	r := must(s.ClusterRoles().Get(ctx, "view", metav1.GetOptions{}))
	r.Labels = nil
	must(s.ClusterRoles().Update(ctx, r, metav1.UpdateOptions{}))
	s.sync(ctx)
	var mu sync.Mutex
	refuse := 2
	s.PrependReactor("update", "clusterroles", func(clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		refuse--
		return refuse >= 0, nil, apierrors.NewConflict(rbacv1.Resource("clusterroles"), "view", nil)
	})
	if sum := ensure(t, s); sum.Updated != 1 {
		t.Errorf("got %+v", sum)
	}
	var reads int
	for _, a := range s.Actions() {
		if a.GetVerb() == "get" {
			reads++
		}
	}
	if reads != 2 {
		t.Errorf("%d reads from the server after 2 conflicts", reads)
	}
}

func TestOneFailureDoesNotStopTheRest(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.PrependReactor("create", "clusterroles", func(a clienttesting.Action) (bool, runtime.Object, error) {
		o := a.(clienttesting.CreateAction).GetObject().(*rbacv1.ClusterRole)
		return o.Name == "edit", nil, apierrors.NewForbidden(rbacv1.Resource("clusterroles"), o.Name, nil)
	})
	policy := bootstrap.NewPolicy()
	sum, err := policy.Ensure(t.Context(), bootstrap.Config{Reader: s, Client: s})
	if !apierrors.IsForbidden(err) && (err == nil || !strings.Contains(err.Error(), "clusterrole edit")) {
		t.Errorf("got error %v", err)
	}
	if want := len(policy.ClusterRoles) + len(policy.Roles) - 1; sum.Created != want {
		t.Errorf("%d were created, want the other %d", sum.Created, want)
	}
}

func BenchmarkNothingToDo(b *testing.B) {
	s := started(b)
	for b.Loop() {
		ensure(b, s)
	}
}
