package rbac_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	upstream "k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"

	"github.com/rowlock-io/rowlock/server/authz/rbac"
)

// bootstrapped is a cluster as it is after its first start, with the few bindings more that its users make.
func bootstrapped() *cluster {
	c := &cluster{revision: 1}
	for _, r := range append(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()...) {
		c.clusterRoles = append(c.clusterRoles, &r)
	}
	for _, b := range append(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()...) {
		c.clusterRoleBindings = append(c.clusterRoleBindings, &b)
	}
	c.clusterRoleBindings = append(c.clusterRoleBindings, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "ops"},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.GroupKind, Name: "ops"}},
	})
	c.roleBindings = append(c.roleBindings, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "red", Name: "dev"},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: "system:aggregate-to-edit"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "dev"}},
	})
	return c
}

func record(name, group, verb, apiGroup, resource, namespace string) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{
		User:     &user.DefaultInfo{Name: name, Groups: []string{group, user.AllAuthenticated}},
		Verb:     verb,
		APIGroup: apiGroup, Resource: resource, Namespace: namespace, ResourceRequest: true,
	}
}

var situations = map[string]struct {
	attrs authorizer.AttributesRecord
	want  authorizer.Decision
}{
	"controller": {record("system:serviceaccount:kube-system:deployment-controller", "system:serviceaccounts", "update", "apps", "replicasets", "red"), authorizer.DecisionAllow},
	"admin":      {record("ann", "ops", "create", "", "configmaps", "red"), authorizer.DecisionAllow},
	"namespaced": {record("dev", "devs", "patch", "apps", "deployments", "red"), authorizer.DecisionAllow},
	"stranger":   {record("eve", "none", "get", "", "secrets", "red"), authorizer.DecisionNoOpinion},
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	a := rbac.New(bootstrapped())
	for name, tc := range situations {
		got, reason, err := a.Authorize(t.Context(), tc.attrs)
		if got != tc.want || err != nil {
			t.Errorf("%s: got %v %q %v, want %v", name, got, reason, err, tc.want)
		}
	}
	rules, _, _, err := a.RulesFor(t.Context(), situations["controller"].attrs.User, "red")
	if err != nil || len(rules) == 0 {
		t.Errorf("RulesFor: %d rules, %v", len(rules), err)
	}
}

func TestIndexIsKeptUntilSomethingChanges(t *testing.T) {
	t.Parallel()
	c := bootstrapped()
	a := rbac.New(c)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if d, _, _ := a.Authorize(t.Context(), situations["controller"].attrs); d != authorizer.DecisionAllow {
					t.Error("denied")
				}
			}
		})
	}
	wg.Wait()
	if n := c.lists.Load(); n != 1 {
		t.Errorf("800 decisions listed %d times, want 1", n)
	}
	c.clusterRoleBindings = nil
	c.revision++
	if d, _, _ := a.Authorize(t.Context(), situations["controller"].attrs); d == authorizer.DecisionAllow {
		t.Error("still allowed after all bindings are gone")
	}
}

func TestPassingErrorsAreNotKept(t *testing.T) {
	t.Parallel()
	c := bootstrapped()
	a := rbac.New(c)
	attrs := situations["admin"].attrs
	c.roleErrs = map[string]error{"cluster-admin": errors.New("away")}
	if d, reason, _ := a.Authorize(t.Context(), attrs); d != authorizer.DecisionNoOpinion || !strings.Contains(reason, "away") {
		t.Errorf("got %v %q", d, reason)
	}
	c.roleErrs = nil // and no new revision: nothing was written
	if d, reason, _ := a.Authorize(t.Context(), attrs); d != authorizer.DecisionAllow {
		t.Errorf("got %v %q", d, reason)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	c := bootstrapped()
	for name, tc := range situations {
		for which, a := range map[string]authorizer.Authorizer{"index": rbac.New(c), "upstream": upstream.New(c, c, c, c)} {
			b.Run(name+"/"+which, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_, _, _ = a.Authorize(b.Context(), tc.attrs)
				}
			})
		}
	}
}

func BenchmarkRebuild(b *testing.B) {
	c := bootstrapped()
	a := rbac.New(c)
	for b.Loop() {
		c.revision++
		_, _, _ = a.Authorize(b.Context(), situations["admin"].attrs)
	}
}
