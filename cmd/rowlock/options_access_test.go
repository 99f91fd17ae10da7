package main

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/pflag"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	signertest "k8s.io/kubernetes/pkg/serviceaccount/externaljwt/plugin/testing/v1"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// withFlags starts a server whose access is as the flags say; only the tokens are the test's.
func withFlags(t *testing.T, clusters []string, flags ...string) *servertest.Server {
	t.Helper()
	o := newAccessOptions()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.addFlags(fs)
	if err := fs.Parse(flags); err != nil {
		t.Fatal(err)
	}
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	return servertest.Start(t, servertest.Config{Clusters: clusters, Plane: func(cfg *controlplane.Config) {
		tokens := cfg.TokenFile
		if err := o.apply(cfg); err != nil {
			t.Fatal(err)
		}
		cfg.TokenFile = tokens
		stop, err := o.startSigner(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
	}})
}

// TestAuthorizationWebhookByFlags: the webhook is asked about who has no rights otherwise, in the version and with the
// memory that the flags say.
func TestAuthorizationWebhookByFlags(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked := map[string]int{}
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		review := &authorizationv1.SubjectAccessReview{}
		if err := json.NewDecoder(req.Body).Decode(review); err != nil {
			t.Error(err)
		}
		about := "nothing"
		if r := review.Spec.ResourceAttributes; r != nil {
			about = r.Resource
		}
		mu.Lock()
		asked[fmt.Sprintf("%s: %s %s", review.APIVersion, review.Spec.User, about)]++
		mu.Unlock()
		review.Status.Allowed = about == "configmaps"
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(hook.Close)
	file := filepath.Join(t.TempDir(), "hook.yaml")
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw}))
	config := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: h, cluster: {server: %q, certificate-authority-data: %s}}]\n"+
		"users: [{name: u}]\ncontexts: [{name: c, context: {cluster: h, user: u}}]\ncurrent-context: c\n", hook.URL, ca)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := withFlags(t, nil, "--authorization-mode=Node,RBAC,Webhook", "--authorization-webhook-config-file="+file,
		"--authorization-webhook-version=v1", "--authorization-webhook-cache-authorized-ttl=1h", "--authorization-webhook-cache-unauthorized-ttl=0s")
	admin := s.Client(t, servertest.Default).CoreV1()
	alice := servertest.NewClient(t, s.Config(servertest.Default, servertest.AliceToken)).CoreV1()
	for range 2 {
		if _, err := admin.Secrets("default").List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
		if _, err := alice.ConfigMaps("default").List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
		if _, err := alice.Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("what the webhook does not allow: %v", err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for what, want := range map[string]int{
		"authorization.k8s.io/v1: alice configmaps": 1, // remembered
		"authorization.k8s.io/v1: alice secrets":    2, // not
		"authorization.k8s.io/v1: admin secrets":    0,
	} {
		if asked[what] != want {
			t.Errorf("asked %d times about %q, want %d; all: %v", asked[what], what, want, asked)
		}
	}
}

// TestSigningEndpoint: tokens are signed by another process with keys of its own, live no longer than it can have them
// live, and are those of the cluster at the root only.
func TestSigningEndpoint(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s.sock")
	signer := signertest.NewMockSigner(t, socket)
	s := withFlags(t, []string{"other"}, "--service-account-signing-endpoint="+socket)
	for cluster, external := range map[string]bool{servertest.Default: true, "other": false} {
		accounts := s.Client(t, cluster).CoreV1().ServiceAccounts("default")
		if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		seconds := int64(3600)
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
		token, err := accounts.CreateToken(t.Context(), "robot", request, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		header, err := base64.RawURLEncoding.DecodeString(strings.SplitN(token.Status.Token, ".", 2)[0])
		if err != nil {
			t.Fatal(err)
		}
		if by := strings.Contains(string(header), `"kid":"`+signer.SigningKeyID+`"`); by != external {
			t.Errorf("%s: signed with %s", cluster, header)
		}
		if cut := *token.Spec.ExpirationSeconds == signer.MaxTokenExpirationSeconds; cut != external {
			t.Errorf("%s: the token lives for %d s", cluster, *token.Spec.ExpirationSeconds)
		}
		for at, known := range map[string]bool{cluster: true, map[string]string{"other": servertest.Default, servertest.Default: "other"}[cluster]: false} {
			got, err := servertest.NewClient(t, s.Config(at, token.Status.Token)).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
			if known && (err != nil || got.Status.UserInfo.Username != "system:serviceaccount:default:robot") || !known && !apierrors.IsUnauthorized(err) {
				t.Errorf("a token of %s at %s: %v, %v", cluster, at, got, err)
			}
		}
	}
}

func TestSigningEndpointStandsAlone(t *testing.T) {
	t.Parallel()
	o := newAccessOptions()
	o.signingEndpoint, o.signingKeyFile = "@not a name", "key.pem"
	o.authentication.ServiceAccounts.KeyFiles = []string{"key.pem"}
	err := o.validate()
	for _, words := range []string{"They are mutually exclusive", "must be a valid abstract socket name"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v does not say %q", err, words)
		}
	}
}
