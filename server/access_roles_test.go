package server_test

import (
	"slices"
	"testing"
	"time"

	jose "gopkg.in/go-jose/go-jose.v2"
	"gopkg.in/go-jose/go-jose.v2/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// bindAlice gives alice a ClusterRole in the namespace default.
func bindAlice(t *testing.T, admin kubernetes.Interface, role string) {
	t.Helper()
	_, err := admin.RbacV1().RoleBindings("default").Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// Who has a role that others are aggregated to may do what those say, also over several steps, and no longer than they say it.
func TestAggregatedRolesGrantWhatTheySelect(t *testing.T) {
	t.Parallel()
	s := startWith(t, nil)
	admin := s.Client(t, servertest.Default)
	bindAlice(t, admin, "admin")
	alice := servertest.NewClient(t, s.Config(servertest.Default, servertest.AliceToken))
	await(t, "admin is filled", func() bool {
		_, err := alice.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
		return err == nil
	})
	_, err := alice.CoreV1().PodTemplates("default").List(t.Context(), metav1.ListOptions{})
	refused(t, "what no role speaks of", err)
	// What is aggregated to view comes to edit, and from there to admin.
	roles := admin.RbacV1().ClusterRoles()
	_, err = roles.Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "more", Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"list"}, APIGroups: []string{""}, Resources: []string{"podtemplates"}}},
	}, metav1.CreateOptions{})
	allowed(t, "role", err)
	await(t, "the role reaches admin", func() bool {
		_, err := alice.CoreV1().PodTemplates("default").List(t.Context(), metav1.ListOptions{})
		return err == nil
	})
	allowed(t, "delete", roles.Delete(t.Context(), "more", metav1.DeleteOptions{}))
	await(t, "the role leaves admin", func() bool {
		_, err := alice.CoreV1().PodTemplates("default").List(t.Context(), metav1.ListOptions{})
		return err != nil
	})
	refused(t, "what a role spoke of", func() error {
		_, err := alice.CoreV1().PodTemplates("default").List(t.Context(), metav1.ListOptions{})
		return err
	}())
}

// The review APIs answer as requests would be decided.
func TestReviewsAgreeWithDecisions(t *testing.T) {
	t.Parallel()
	s := startWith(t, nil)
	admin := s.Client(t, servertest.Default)
	_, err := admin.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "leases"},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{"one"}}},
	}, metav1.CreateOptions{})
	allowed(t, "role", err)
	bindAlice(t, admin, "leases")
	alice := servertest.NewClient(t, s.Config(servertest.Default, servertest.AliceToken))
	one := authorizationv1.ResourceAttributes{Verb: "get", Group: "coordination.k8s.io", Resource: "leases", Namespace: "default", Name: "one"}
	self := func(attrs authorizationv1.ResourceAttributes) bool {
		t.Helper()
		review, err := alice.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attrs},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return review.Status.Allowed
	}
	await(t, "the binding is known", func() bool { return self(one) })
	two, elsewhere := one, one
	two.Name, elsewhere.Namespace = "two", "kube-system"
	if self(two) || self(elsewhere) {
		t.Error("allowed more than the role says")
	}
	local := func(namespace string, attrs authorizationv1.ResourceAttributes) (*authorizationv1.LocalSubjectAccessReview, error) {
		return admin.AuthorizationV1().LocalSubjectAccessReviews(namespace).Create(t.Context(), &authorizationv1.LocalSubjectAccessReview{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace},
			Spec:       authorizationv1.SubjectAccessReviewSpec{User: "alice", ResourceAttributes: &attrs},
		}, metav1.CreateOptions{})
	}
	if review, err := local("default", one); err != nil || !review.Status.Allowed {
		t.Errorf("local: %+v, %v", review, err)
	}
	if review, err := local("default", elsewhere); err == nil {
		t.Errorf("a local review of another namespace: %+v", review.Status)
	}
	_, err = alice.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: "admin", ResourceAttributes: &one},
	}, metav1.CreateOptions{})
	refused(t, "asking about others", err)
	rules, err := alice.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "default"},
	}, metav1.CreateOptions{})
	if err != nil || !slices.ContainsFunc(rules.Status.ResourceRules, func(r authorizationv1.ResourceRule) bool {
		return slices.Contains(r.Resources, "leases") && slices.Equal(r.ResourceNames, []string{"one"})
	}) {
		t.Errorf("rules: %+v, %v", rules, err)
	}
}

// A token from a Secret works while the Secret holds it, and no longer.
func TestTokensOfDeletedOrChangedSecretsAreRefused(t *testing.T) {
	t.Parallel()
	s := startWith(t, nil)
	core := s.Client(t, servertest.Default).CoreV1()
	account, err := core.ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "old"}}, metav1.CreateOptions{})
	allowed(t, "account", err)
	key := s.Identity(servertest.Default).ServiceAccountKey()
	tokens := map[string]string{}
	for _, name := range []string{"kept", "deleted", "changed"} {
		tokens[name] = sign(t, jose.ES256, key, map[string]any{
			"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:old",
			"kubernetes.io/serviceaccount/namespace":            "default",
			"kubernetes.io/serviceaccount/secret.name":          name,
			"kubernetes.io/serviceaccount/service-account.name": "old",
			"kubernetes.io/serviceaccount/service-account.uid":  string(account.UID),
		})
		_, err := core.Secrets("default").Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
				corev1.ServiceAccountNameKey: "old", corev1.ServiceAccountUIDKey: string(account.UID),
			}},
			Type: corev1.SecretTypeServiceAccountToken, StringData: map[string]string{corev1.ServiceAccountTokenKey: tokens[name]},
		}, metav1.CreateOptions{})
		allowed(t, name, err)
	}
	changed, err := core.Secrets("default").Get(t.Context(), "changed", metav1.GetOptions{})
	allowed(t, "get", err)
	changed.StringData = map[string]string{corev1.ServiceAccountTokenKey: "other"}
	_, err = core.Secrets("default").Update(t.Context(), changed, metav1.UpdateOptions{})
	allowed(t, "update", err)
	allowed(t, "delete", core.Secrets("default").Delete(t.Context(), "deleted", metav1.DeleteOptions{}))
	is(t, "kept", s.Config(servertest.Default, tokens["kept"]), "system:serviceaccount:default:old")
	is(t, "deleted", s.Config(servertest.Default, tokens["deleted"]), "")
	is(t, "changed", s.Config(servertest.Default, tokens["changed"]), "")
}

// Tokens of pods are good for a year, for clients that do not read them again, unless that is switched off; and no token
// lives longer than the operator says.
func TestTokenLifetimes(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change  func(*controlplane.Config)
		seconds int64
		want    time.Duration
	}{
		"extended":     {func(*controlplane.Config) {}, 3607, 365 * 24 * time.Hour},
		"not extended": {func(c *controlplane.Config) { c.Access.ShortTokens = true }, 3607, 3607 * time.Second},
		"bounded":      {func(c *controlplane.Config) { c.TokenLifetime = 2 * time.Hour }, 7 * 24 * 3600, 2 * time.Hour},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := startWith(t, c.change)
			core := s.Client(t, servertest.Default).CoreV1()
			meta := metav1.ObjectMeta{Name: "p"}
			_, err := core.ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
			allowed(t, "account", err)
			pod, err := core.Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{
				ServiceAccountName: "p", Containers: []corev1.Container{{Name: "c", Image: "i"}},
			}}, metav1.CreateOptions{})
			allowed(t, "pod", err)
			r, err := core.ServiceAccounts("default").CreateToken(t.Context(), "p", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
				ExpirationSeconds: &c.seconds, BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "p", UID: pod.UID},
			}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			token, err := jwt.ParseSigned(r.Status.Token)
			if err != nil {
				t.Fatal(err)
			}
			var claims jwt.Claims
			if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
				t.Fatal(err)
			}
			if got := claims.Expiry.Time().Sub(claims.IssuedAt.Time()); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
