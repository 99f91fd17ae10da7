package server_test

import (
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/authn"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// A token that was believed is remembered for ten seconds. Then it is looked at again, however often it was used meanwhile
// and though the connection stays open, and is refused when what it is bound to is gone.
func TestRememberedTokensOfWhatIsGoneAreRefused(t *testing.T) {
	t.Parallel()
	s := startWith(t, nil)
	admin := s.Client(t, servertest.Default)
	core := admin.CoreV1()
	for _, name := range []string{"kept", "gone"} {
		must[any](t)(core.ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
	}
	pod := must[*corev1.Pod](t)(createPod(t, admin, "default", newPod("bound", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "kept" })))
	secret := must[*corev1.Secret](t)(core.Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bound"}}, metav1.CreateOptions{}))
	tokens := map[string]string{
		"pod":     serviceAccountToken(t, admin, "kept", &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "bound", UID: pod.UID}),
		"secret":  serviceAccountToken(t, admin, "kept", &authenticationv1.BoundObjectReference{Kind: "Secret", APIVersion: "v1", Name: "bound", UID: secret.UID}),
		"account": serviceAccountToken(t, admin, "gone", nil),
		"kept":    serviceAccountToken(t, admin, "kept", nil),
	}
	users := map[string]string{"pod": "kept", "secret": "kept", "account": "gone", "kept": "kept"}
	for what, token := range tokens {
		is(t, what, s.Config(servertest.Default, token), "system:serviceaccount:default:"+users[what])
	}
	var now int64
	zero := metav1.DeleteOptions{GracePeriodSeconds: &now}
	for what, err := range map[string]error{
		"pod":     core.Pods("default").Delete(t.Context(), "bound", zero),
		"secret":  core.Secrets("default").Delete(t.Context(), "bound", zero),
		"account": core.ServiceAccounts("default").Delete(t.Context(), "gone", zero),
	} {
		allowed(t, "delete "+what, err)
	}
	// They are used all the time: using does not lengthen what is remembered.
	clients := map[string]func() bool{}
	for _, what := range []string{"pod", "secret", "account"} {
		client := servertest.NewClient(t, s.Config(servertest.Default, tokens[what]))
		clients[what] = func() bool {
			_, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
			return err == nil
		}
	}
	for deadline := time.Now().Add(6 * authn.TokenCacheTTL); len(clients) > 0; time.Sleep(authn.TokenCacheTTL / 40) {
		for what, believed := range clients {
			if !believed() {
				delete(clients, what)
			} else if time.Now().After(deadline) {
				t.Fatalf("the token of a deleted %s is still believed", what)
			}
		}
	}
	for _, what := range []string{"pod", "secret", "account"} {
		is(t, "of a deleted "+what, s.Config(servertest.Default, tokens[what]), "")
	}
	is(t, "of what is still there", s.Config(servertest.Default, tokens["kept"]), "system:serviceaccount:default:kept")
}
