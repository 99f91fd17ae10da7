package robustness_test

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// serviceAccountToken returns a token of the namespace's default account.
func serviceAccountToken(t *testing.T, client kubernetes.Interface, namespace string) string {
	t.Helper()
	token, err := client.CoreV1().ServiceAccounts(namespace).
		CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Status.Token
}

// whoIs returns the name of a token's user.
func whoIs(t *testing.T, client kubernetes.Interface, token string) string {
	t.Helper()
	review, err := client.AuthenticationV1().TokenReviews().Create(t.Context(),
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return review.Status.User.Username
}
