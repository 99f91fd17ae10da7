package server_test

import (
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
)

// await waits for what happens soon but not at once. The bound is only for tests that fail.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func newTokenRequest() *authenticationv1.TokenRequest {
	lifetime := int64(3600)
	return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &lifetime}}
}
