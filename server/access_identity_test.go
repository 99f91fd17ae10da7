package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jose "gopkg.in/go-jose/go-jose.v2"
	"gopkg.in/go-jose/go-jose.v2/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// startWith starts a server whose default cluster has this access.
func startWith(t *testing.T, change func(*controlplane.Config), clusters ...string) *servertest.Server {
	t.Helper()
	return servertest.Start(t, servertest.Config{Clusters: clusters, Plane: change})
}

// whoami asks who a request is taken for. An error is returned as it came.
func whoami(ctx context.Context, t *testing.T, cfg *rest.Config) (authenticationv1.UserInfo, error) {
	t.Helper()
	review, err := servertest.NewClient(t, cfg).AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	return review.Status.UserInfo, nil
}

// is fails the test unless a request is taken for a user, "" for nobody.
func is(t *testing.T, what string, cfg *rest.Config, want string) {
	t.Helper()
	got, err := whoami(t.Context(), t, cfg)
	switch {
	case want == "" && !apierrors.IsUnauthorized(err):
		t.Errorf("%s: %q, %v, want that it is unauthorized", what, got.Username, err)
	case want != "" && (err != nil || got.Username != want):
		t.Errorf("%s: %q, %v, want %q", what, got.Username, err, want)
	}
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	// As secrets are mounted: the new file takes the place of the old at once.
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// authority is one that no cluster has.
func authority(t *testing.T) *pki.Authority {
	t.Helper()
	keys, err := seal.Parse(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	db := memory.New()
	if err := db.CreateCluster(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	store, err := db.OpenCluster(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.Load(t.Context(), store, keys)
	if err != nil {
		t.Fatal(err)
	}
	return id.ClusterCA
}

// showing is a config with a client certificate of an authority.
func showing(t *testing.T, s *servertest.Server, cluster string, a *pki.Authority, c pki.Client) *rest.Config {
	t.Helper()
	pair, err := a.IssueClient(c)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.Config(cluster, "")
	cfg.CertData, cfg.KeyData = pair.CertPEM, pair.KeyPEM
	return cfg
}

// Further authorities are believed beside the cluster's own, at the root only, and are read again when the file changes.
func TestClientAuthoritiesOfTheOperator(t *testing.T) {
	t.Parallel()
	first, second := authority(t), authority(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	write(t, file, first.Bundle())
	s := startWith(t, func(c *controlplane.Config) { c.Access.ClientCAFile = file }, "other")
	ann := pki.Client{User: "ann"}
	is(t, "own authority", s.WithCertificate(t, servertest.Default, servertest.Default, ann), "ann")
	is(t, "the operator's", showing(t, s, servertest.Default, first, ann), "ann")
	is(t, "one that is not named", showing(t, s, servertest.Default, second, ann), "")
	is(t, "the operator's at another cluster", showing(t, s, "other", first, pki.Admin()), "")
	write(t, file, second.Bundle())
	await(t, "the new file", func() bool {
		_, err := whoami(t.Context(), t, showing(t, s, servertest.Default, second, ann))
		return err == nil
	})
	is(t, "the one before", showing(t, s, servertest.Default, first, ann), "")
}

// What one cluster gave out opens no other: certificates, service-account tokens, bootstrap tokens.
func TestCredentialsOfOneClusterOpenNoOther(t *testing.T) {
	t.Parallel()
	s := startWith(t, func(c *controlplane.Config) { c.Access.BootstrapTokens = true }, "red", "blue")
	red := s.Client(t, "red")
	token := serviceAccountToken(t, red, "default", nil)
	bootstrapToken(t, red, "abcdef", "0123456789abcdef", time.Now().Add(time.Hour))
	is(t, "token at home", s.Config("red", token), "system:serviceaccount:default:default")
	is(t, "bootstrap token at home", s.Config("red", "abcdef.0123456789abcdef"), "system:bootstrap:abcdef")
	is(t, "certificate at home", s.WithCertificate(t, "red", "red", pki.Admin()), pki.Admin().User)
	for _, elsewhere := range []string{"blue", servertest.Default} {
		is(t, "token", s.Config(elsewhere, token), "")
		is(t, "bootstrap token", s.Config(elsewhere, "abcdef.0123456789abcdef"), "")
		is(t, "certificate", s.WithCertificate(t, elsewhere, "red", pki.Admin()), "")
		// A service account of the same name does not help.
		review, err := s.Client(t, elsewhere).AuthenticationV1().TokenReviews().Create(t.Context(),
			&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
		if err != nil || review.Status.Authenticated {
			t.Errorf("TokenReview in %s: %+v, %v", elsewhere, review.Status, err)
		}
	}
}

// serviceAccountToken makes the account if it has to, and a token for it.
func serviceAccountToken(t *testing.T, client kubernetes.Interface, account string, bound *authenticationv1.BoundObjectReference) string {
	t.Helper()
	accounts := client.CoreV1().ServiceAccounts("default")
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	r := newTokenRequest()
	r.Spec.BoundObjectRef = bound
	r, err = accounts.CreateToken(t.Context(), account, r, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status.Token
}

func bootstrapToken(t *testing.T, client kubernetes.Interface, id, secret string, until time.Time) {
	t.Helper()
	_, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id}, Type: "bootstrap.kubernetes.io/token",
		StringData: map[string]string{
			"token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true", "expiration": until.UTC().Format(time.RFC3339),
			"auth-extra-groups": "system:bootstrappers:workers",
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBootstrapTokens(t *testing.T) {
	t.Parallel()
	s := startWith(t, func(c *controlplane.Config) { c.Access.BootstrapTokens = true })
	admin := s.Client(t, servertest.Default)
	bootstrapToken(t, admin, "aaaaaa", "0123456789abcdef", time.Now().Add(time.Hour))
	bootstrapToken(t, admin, "bbbbbb", "0123456789abcdef", time.Now().Add(-time.Hour))
	got, err := whoami(t.Context(), t, s.Config(servertest.Default, "aaaaaa.0123456789abcdef"))
	if err != nil || got.Username != "system:bootstrap:aaaaaa" ||
		!slices.Equal(got.Groups, []string{"system:bootstrappers", "system:bootstrappers:workers", "system:authenticated"}) {
		t.Errorf("%+v, %v", got, err)
	}
	is(t, "expired", s.Config(servertest.Default, "bbbbbb.0123456789abcdef"), "")
	is(t, "wrong secret", s.Config(servertest.Default, "aaaaaa.fedcba9876543210"), "")
	is(t, "unknown", s.Config(servertest.Default, "cccccc.0123456789abcdef"), "")
	is(t, "switched off", shared.Config(servertest.Default, "aaaaaa.0123456789abcdef"), "")
}

// A token lives no longer than what it is bound to, but for the ten seconds that an answer is remembered.
func TestTokensOfWhatIsGoneAreRefused(t *testing.T) {
	t.Parallel()
	s := startWith(t, nil)
	admin := s.Client(t, servertest.Default)
	core := admin.CoreV1()
	meta := metav1.ObjectMeta{Name: "bound"}
	account, err := core.ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod, err := core.Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{
		ServiceAccountName: "bound", Containers: []corev1.Container{{Name: "c", Image: "i"}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := core.Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: meta}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node, err := core.Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: meta}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := core.Secrets("default").Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "legacy", Annotations: map[string]string{"kubernetes.io/service-account.name": "bound"}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}, metav1.CreateOptions{})
	if err != nil || legacy.Type != corev1.SecretTypeServiceAccountToken {
		t.Fatal(err)
	}
	tokens := map[string]string{
		"Pod":    serviceAccountToken(t, admin, "bound", &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "bound", UID: pod.UID}),
		"Secret": serviceAccountToken(t, admin, "bound", &authenticationv1.BoundObjectReference{Kind: "Secret", APIVersion: "v1", Name: "bound", UID: secret.UID}),
		"Node":   serviceAccountToken(t, admin, "bound", &authenticationv1.BoundObjectReference{Kind: "Node", APIVersion: "v1", Name: "bound", UID: node.UID}),
		"none":   serviceAccountToken(t, admin, "bound", nil),
	}
	var now int64
	zero := metav1.DeleteOptions{GracePeriodSeconds: &now}
	for _, err := range []error{
		core.Pods("default").Delete(t.Context(), "bound", zero), core.Secrets("default").Delete(t.Context(), "bound", zero), core.Nodes().Delete(t.Context(), "bound", zero),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// None was used before, so nothing is remembered of them.
	for _, kind := range []string{"Pod", "Secret", "Node"} {
		is(t, "bound to a deleted "+kind, s.Config(servertest.Default, tokens[kind]), "")
	}
	// Another of the same name is not it.
	if _, err := core.Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	is(t, "bound to a Secret that was made again", s.Config(servertest.Default, tokens["Secret"]), "")
	if err := core.ServiceAccounts("default").Delete(t.Context(), account.Name, zero); err != nil {
		t.Fatal(err)
	}
	is(t, "of a deleted account", s.Config(servertest.Default, tokens["none"]), "")
	if _, err := core.ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	is(t, "of an account that was made again", s.Config(servertest.Default, tokens["none"]), "")
}

// sign makes a token of a cluster's service account, but with claims and a key of the test's choice.
func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Tokens that are expired, unsigned, signed by a public key as a secret, or meant for others are refused.
func TestForgedExpiredAndForeignTokensAreRefused(t *testing.T) {
	t.Parallel()
	admin := shared.Client(t, servertest.Default)
	good := serviceAccountToken(t, admin, "forged", nil)
	parsed, err := jwt.ParseSigned(good)
	if err != nil {
		t.Fatal(err)
	}
	read := func() map[string]any {
		claims := map[string]any{}
		if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
			t.Fatal(err)
		}
		return claims
	}
	with := func(name string, value any) map[string]any {
		claims := read()
		claims[name] = value
		return claims
	}
	own := shared.Identity(servertest.Default).ServiceAccountKey()
	public, err := x509.MarshalPKIXPublicKey(own.Public())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	hour := time.Now().Add(-time.Hour).Unix()
	is(t, "as it is", shared.Config(servertest.Default, good), "system:serviceaccount:default:forged")
	is(t, "signed again", shared.Config(servertest.Default, sign(t, jose.ES256, own, read())), "system:serviceaccount:default:forged")
	for what, token := range map[string]string{
		"expired":            sign(t, jose.ES256, own, with("exp", hour)),
		"not yet valid":      sign(t, jose.ES256, own, with("nbf", time.Now().Add(time.Hour).Unix())),
		"another audience":   sign(t, jose.ES256, own, with("aud", []string{"https://elsewhere"})),
		"another issuer":     sign(t, jose.ES256, own, with("iss", "https://elsewhere")),
		"another key":        sign(t, jose.ES256, stranger, read()),
		"public key as HMAC": sign(t, jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), read()),
		"alg none":           "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + parts[1] + ".",
		"no signature":       parts[0] + "." + parts[1] + ".",
		"other payload":      parts[0] + "." + strings.Split(sign(t, jose.ES256, stranger, with("sub", "x")), ".")[1] + "." + parts[2],
	} {
		is(t, what, shared.Config(servertest.Default, token), "")
	}
}

// What X-Remote-* says counts only with the certificate of a front proxy, and never reaches what is behind.
func TestRemoteHeadersOfClientsAreNotBelieved(t *testing.T) {
	t.Parallel()
	proxies, clients := authority(t), authority(t)
	dir := t.TempDir()
	proxyFile, clientFile := filepath.Join(dir, "proxies.pem"), filepath.Join(dir, "clients.pem")
	write(t, proxyFile, proxies.Bundle())
	write(t, clientFile, clients.Bundle())
	s := startWith(t, func(c *controlplane.Config) {
		c.Access.ClientCAFile = clientFile
		c.Access.FrontProxy = controlplane.FrontProxy{
			CAFile: proxyFile, AllowedNames: []string{"edge"}, UsernameHeaders: []string{"X-Remote-User"}, UIDHeaders: []string{"X-Remote-Uid"},
			GroupHeaders: []string{"X-Remote-Group"}, ExtraHeaderPrefix: []string{"X-Remote-Extra-"},
		}
	}, "other")
	says := func(cfg *rest.Config, headers http.Header) *rest.Config {
		cfg = rest.CopyConfig(cfg)
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				req = req.Clone(req.Context())
				for k, v := range headers {
					req.Header[k] = v
				}
				return next.RoundTrip(req)
			})
		})
		return cfg
	}
	headers := http.Header{
		"X-Remote-User": {"root"}, "X-Remote-Group": {"system:masters"}, "X-Remote-Uid": {"0"}, "X-Remote-Extra-Scopes": {"all"},
	}
	edge, other := pki.Client{User: "edge"}, pki.Client{User: "somebody"}
	is(t, "the proxy", says(showing(t, s, servertest.Default, proxies, edge), headers), "root")
	is(t, "another name of the proxy's authority", says(showing(t, s, servertest.Default, proxies, other), headers), "")
	is(t, "the proxy at another cluster", says(showing(t, s, "other", proxies, edge), headers), "")
	is(t, "the proxy, saying nothing", showing(t, s, servertest.Default, proxies, edge), "")
	is(t, "a client called like the proxy", says(showing(t, s, servertest.Default, clients, edge), headers), "edge")
	is(t, "a client of the cluster called like its own proxy", says(s.WithCertificate(t, servertest.Default, servertest.Default, pki.FrontProxy()), headers), pki.FrontProxy().User)
	is(t, "a token", says(s.Config(servertest.Default, servertest.AliceToken), headers), "alice")
	if _, err := whoami(t.Context(), t, says(s.Config(servertest.Default, ""), headers)); err == nil || !strings.Contains(err.Error(), `User "system:anonymous"`) {
		t.Errorf("nobody: %v", err)
	}
	for _, h := range []http.Header{
		{"x-remote-user": {"root"}, "x-remote-group": {"system:masters"}},
		{"X_Remote_User": {"root"}, "X_Remote_Group": {"system:masters"}},
		{"X-Remote-User": {"root", "alice"}},
		{"X-Remote-User": {""}, "X-Remote-Group": {"system:masters"}},
		{"X-Remote-Group": {"system:masters"}},
	} {
		got, err := whoami(t.Context(), t, says(s.Config(servertest.Default, servertest.AliceToken), h))
		if err != nil || got.Username != "alice" || slices.Contains(got.Groups, "system:masters") || len(got.Extra) > 0 {
			t.Errorf("%v: %+v, %v", h, got, err)
		}
	}
	again := authority(t)
	write(t, proxyFile, again.Bundle())
	await(t, "the new front-proxy authority", func() bool {
		got, err := whoami(t.Context(), t, says(showing(t, s, servertest.Default, again, edge), headers))
		return err == nil && got.Username == "root"
	})
	is(t, "the proxy of the one before", says(showing(t, s, servertest.Default, proxies, edge), headers), "")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Keys of the operator sign and verify beside the cluster's own, for further issuers and audiences.
func TestServiceAccountKeysOfTheOperator(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, before := filepath.Join(dir, "key.pem"), filepath.Join(dir, "before.pem")
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	old, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if der, err = x509.MarshalPKIXPublicKey(old.Public()); err != nil {
		t.Fatal(err)
	}
	write(t, before, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	s := startWith(t, func(c *controlplane.Config) {
		c.Issuer = "https://new"
		c.Access.ServiceAccounts = controlplane.ServiceAccountKeys{
			SigningKeyFile: key, KeyFiles: []string{key, before}, Issuers: []string{"https://old"}, KeysURL: "https://keys/jwks",
		}
		c.Access.APIAudiences = []string{"api"}
	}, "other")
	token := serviceAccountToken(t, s.Client(t, servertest.Default), "a", nil)
	parsed, err := jwt.ParseSigned(token)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{}
	if err := parsed.Claims(private.Public(), &claims); err != nil {
		t.Fatalf("not signed with the key: %v", err)
	}
	if claims["iss"] != "https://new" {
		t.Errorf("issuer %v", claims["iss"])
	}
	is(t, "new", s.Config(servertest.Default, token), "system:serviceaccount:default:a")
	claims["iss"] = "https://old"
	is(t, "of the old issuer and key", s.Config(servertest.Default, sign(t, jose.ES256, old, claims)), "system:serviceaccount:default:a")
	is(t, "of the cluster's own key", s.Config(servertest.Default, sign(t, jose.ES256, s.Identity(servertest.Default).ServiceAccountKey(), claims)), "system:serviceaccount:default:a")
	claims["aud"] = []string{"https://new"}
	is(t, "for the issuer, which is no audience", s.Config(servertest.Default, sign(t, jose.ES256, old, claims)), "")
	is(t, "of another issuer", s.Config(servertest.Default, sign(t, jose.ES256, private, map[string]any{"iss": "https://x", "aud": "api"})), "")
	// The keys are about the cluster at the root.
	hosted, err := jwt.ParseSigned(serviceAccountToken(t, s.Client(t, "other"), "a", nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := hosted.Claims(s.Identity("other").ServiceAccountKey().Public(), &claims); err != nil {
		t.Errorf("a hosted cluster signs with another's key: %v", err)
	}
	resp := wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/.well-known/openid-configuration", Token: servertest.AdminToken})
	if !strings.Contains(resp.Body, `"jwks_uri":"https://keys/jwks"`) || !strings.Contains(resp.Body, `"issuer":"https://new"`) {
		t.Errorf("discovery: %d %s", resp.Status, resp.Body)
	}
	resp = wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/openid/v1/jwks", Token: servertest.AdminToken})
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(resp.Body), &set); err != nil || len(set.Keys) != 3 {
		t.Errorf("%d keys, %v: %s", len(set.Keys), err, resp.Body)
	}
}

// tokenHook is a server that is asked whose tokens are.
func tokenHook(t *testing.T, asked *atomic.Int32) string {
	t.Helper()
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		review := &authenticationv1.TokenReview{}
		if err := json.NewDecoder(req.Body).Decode(review); err != nil {
			t.Error(err)
		}
		if review.Spec.Token == "known-elsewhere" {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "hooked", Groups: []string{"g"}}}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(hook.Close)
	return hookConfig(t, hook)
}

// hookConfig writes the kubeconfig of a webhook.
func hookConfig(t *testing.T, hook *httptest.Server) string {
	t.Helper()
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw})
	write(t, filepath.Join(dir, "ca.pem"), ca)
	file := filepath.Join(dir, "hook.yaml")
	write(t, file, []byte(`apiVersion: v1
kind: Config
clusters: [{name: hook, cluster: {server: "`+hook.URL+`", certificate-authority: `+filepath.Join(dir, "ca.pem")+`}}]
users: [{name: server}]
contexts: [{name: c, context: {cluster: hook, user: server}}]
current-context: c
`))
	return file
}

func TestTokenWebhook(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	file := tokenHook(t, &asked)
	s := startWith(t, func(c *controlplane.Config) {
		c.Access.TokenWebhook.File, c.Access.TokenWebhook.Version, c.Access.TokenWebhook.TTL = file, "v1", time.Minute
	})
	is(t, "known to the hook", s.Config(servertest.Default, "known-elsewhere"), "hooked")
	is(t, "again", s.Config(servertest.Default, "known-elsewhere"), "hooked")
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	is(t, "unknown", s.Config(servertest.Default, "unknown"), "")
	review, err := s.Client(t, servertest.Default).AuthenticationV1().TokenReviews().Create(t.Context(),
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "known-elsewhere"}}, metav1.CreateOptions{})
	if err != nil || !review.Status.Authenticated || review.Status.User.Username != "hooked" {
		t.Errorf("TokenReview: %+v, %v", review.Status, err)
	}
}

// Anonymous requests come in where the configuration says, and nowhere else.
func TestAnonymousOnlyOnGivenPaths(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "authn.yaml")
	write(t, file, []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {enabled: true, conditions: [{path: /livez}]}\n"))
	s := startWith(t, func(c *controlplane.Config) { c.Access.AuthenticationFile = file })
	for path, want := range map[string]int{"/livez": 200, "/readyz": 401, "/version": 401, "/livez/ping": 401, "//livez": 401} {
		if got := wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: path}); got.Status != want {
			t.Errorf("%s: %d, want %d", path, got.Status, want)
		}
	}
}

// signingRequest is what a client sends to get a certificate.
func signingRequest(t *testing.T, user string, groups ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: user, Organization: groups}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
