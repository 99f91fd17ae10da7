package server_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	jose "gopkg.in/go-jose/go-jose.v2"
	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// issuer is an OpenID Connect issuer with a key of its own.
type issuer struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch req.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]any{
				"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"},
			})
		case "/keys":
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), Use: "sig", Algorithm: "RS256"}}})
		default:
			http.NotFound(w, req)
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}))
}

// token is one for ann, with some claims changed.
func (i *issuer) token(t *testing.T, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": i.URL, "aud": "rowlock", "sub": "ann", "groups": []string{"devs", "ops"}, "team": "blue",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for k, v := range changes {
		claims[k] = v
	}
	return sign(t, jose.RS256, i.key, claims)
}

// yaml is an entry of an AuthenticationConfiguration that believes the issuer.
func (i *issuer) yaml(username string) string {
	return fmt.Sprintf(`
- issuer:
    url: %s
    audiences: [rowlock]
    certificateAuthority: |
      %s
  claimValidationRules:
  - {expression: 'claims.team == "blue"', message: team must be blue}
  claimMappings:
    username: {expression: '%s'}
    groups: {expression: claims.groups}
    uid: {expression: '"u-" + claims.sub'}
    extra:
    - {key: example.com/team, valueExpression: claims.team}
  userValidationRules:
  - {expression: '!user.username.startsWith("system:")', message: may not be of the system}
`, i.URL, strings.ReplaceAll(strings.TrimSpace(i.ca()), "\n", "\n      "), username)
}

const authenticationHead = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:"

// soon waits until a token is believed: issuers are discovered in the background.
func soon(t *testing.T, cfg *rest.Config) authenticationv1.UserInfo {
	t.Helper()
	var got authenticationv1.UserInfo
	await(t, "the issuer is known", func() bool {
		var err error
		got, err = whoami(t.Context(), t, cfg)
		return err == nil
	})
	return got
}

func TestOpenIDConnectByFlags(t *testing.T) {
	t.Parallel()
	i, prefix := newIssuer(t), "oidc:"
	s := startWith(t, func(c *controlplane.Config) {
		c.Access.JWTAlgorithms = []string{"RS256"}
		c.Access.JWT = []apiserver.JWTAuthenticator{{
			Issuer: apiserver.Issuer{URL: i.URL, Audiences: []string{"rowlock"}, CertificateAuthority: i.ca()},
			ClaimMappings: apiserver.ClaimMappings{
				Username: apiserver.PrefixedClaimOrExpression{Claim: "sub", Prefix: &prefix},
				Groups:   apiserver.PrefixedClaimOrExpression{Claim: "groups", Prefix: &prefix},
			},
		}}
	}, "other")
	got := soon(t, s.Config(servertest.Default, i.token(t, nil)))
	if d := cmp.Diff([]string{"oidc:devs", "oidc:ops", "system:authenticated"}, got.Groups); got.Username != "oidc:ann" || d != "" {
		t.Errorf("%q %s", got.Username, d)
	}
	if got := soon(t, s.Config("other", i.token(t, nil))); got.Username != "oidc:ann" {
		t.Errorf("in a hosted cluster: %q", got.Username)
	}
	stranger := newIssuer(t)
	stranger.URL = i.URL
	for what, token := range map[string]string{
		"expired":          i.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"another audience": i.token(t, map[string]any{"aud": "elsewhere"}),
		"another issuer":   i.token(t, map[string]any{"iss": "https://elsewhere"}),
		"another key":      stranger.token(t, nil),
	} {
		is(t, what, s.Config(servertest.Default, token), "")
	}
	is(t, "a service account", s.Config(servertest.Default, serviceAccountToken(t, s.Client(t, servertest.Default), "default", nil)), "system:serviceaccount:default:default")
}

// An AuthenticationConfiguration is followed: its expressions, more issuers, and fewer.
func TestAuthenticationConfigurationIsFollowed(t *testing.T) {
	t.Parallel()
	one, two := newIssuer(t), newIssuer(t)
	file := filepath.Join(t.TempDir(), "authn.yaml")
	write(t, file, []byte(authenticationHead+one.yaml("claims.sub")))
	s := startWith(t, func(c *controlplane.Config) { c.Access.AuthenticationFile = file })
	got := soon(t, s.Config(servertest.Default, one.token(t, nil)))
	if !slices.Equal(got.Groups, []string{"devs", "ops", "system:authenticated"}) || got.UID != "u-ann" || got.Extra["example.com/team"][0] != "blue" {
		t.Errorf("%+v", got)
	}
	is(t, "a claim that is refused", s.Config(servertest.Default, one.token(t, map[string]any{"team": "red"})), "")
	is(t, "a user who is refused", s.Config(servertest.Default, one.token(t, map[string]any{"sub": "system:admin"})), "")
	is(t, "an issuer that is not named", s.Config(servertest.Default, two.token(t, nil)), "")

	write(t, file, []byte("nonsense"))
	write(t, file, []byte(authenticationHead+two.yaml(`"two:" + claims.sub`)))
	if got := soon(t, s.Config(servertest.Default, two.token(t, nil))); got.Username != "two:ann" {
		t.Errorf("%+v", got)
	}
	is(t, "an issuer that is no longer named", s.Config(servertest.Default, one.token(t, map[string]any{"sub": "other"})), "")
}

func as(cfg *rest.Config, who rest.ImpersonationConfig) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.Impersonate = who
	return cfg
}

// Who may impersonate some may not become others: neither system:masters, nor a node, nor with extra that was not granted.
func TestImpersonationDoesNotGainMoreThanIsGranted(t *testing.T) {
	t.Parallel()
	s := startWith(t, nil)
	rbac := s.Client(t, servertest.Default).RbacV1()
	_, err := rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "acts"},
		Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"users"}, ResourceNames: []string{"bob"}},
			{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"groups"}, ResourceNames: []string{"devs"}},
			{Verbs: []string{"impersonate"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"uids"}, ResourceNames: []string{"7"}},
			{Verbs: []string{"impersonate"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"userextras/scopes"}, ResourceNames: []string{"view"}},
		},
	}, metav1.CreateOptions{})
	if err == nil {
		_, err = rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "acts"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "acts"},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice"}},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	alice := s.Config(servertest.Default, servertest.AliceToken)
	granted := rest.ImpersonationConfig{UserName: "bob", Groups: []string{"devs"}, UID: "7", Extra: map[string][]string{"scopes": {"view"}}}
	await(t, "the binding is known", func() bool { _, err := whoami(t.Context(), t, as(alice, granted)); return err == nil })
	got, err := whoami(t.Context(), t, as(alice, granted))
	if err != nil || got.Username != "bob" || got.UID != "7" || got.Extra["scopes"][0] != "view" || !slices.Equal(got.Groups, []string{"devs", "system:authenticated"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for what, who := range map[string]rest.ImpersonationConfig{
		"another user":              {UserName: "root"},
		"system:masters":            {UserName: "bob", Groups: []string{"system:masters"}},
		"system:masters among more": {UserName: "bob", Groups: []string{"devs", "system:masters"}},
		"a node":                    {UserName: "system:node:one", Groups: []string{"system:nodes"}},
		"a service account":         {UserName: "system:serviceaccount:kube-system:default"},
		"another UID":               {UserName: "bob", UID: "8"},
		"another extra":             {UserName: "bob", Extra: map[string][]string{"scopes": {"view", "edit"}}},
		"extra of another key":      {UserName: "bob", Extra: map[string][]string{"scope": {"view"}}},
	} {
		_, err := whoami(t.Context(), t, as(alice, who))
		refused(t, what, err)
	}
	for what, header := range map[string]http.Header{
		"a group without a user": {"Impersonate-Group": {"system:masters"}},
		"extra without a user":   {"Impersonate-Extra-Scopes": {"view"}},
		"a UID without a user":   {"Impersonate-Uid": {"7"}},
	} {
		resp := wire.Send(t, s.URL, servertest.Request{Method: "GET", Path: "/api/v1/secrets", Token: servertest.AliceToken, Header: header})
		if resp.Status < 400 {
			t.Errorf("%s: %d %s", what, resp.Status, resp.Body)
		}
	}
}

// Constrained impersonation grants to act as somebody for single requests, and no others.
func TestConstrainedImpersonationKeepsToItsActions(t *testing.T) {
	t.Parallel()
	s := startWith(t, nil)
	rbac := s.Client(t, servertest.Default).RbacV1()
	bind := func(name, user string, rules ...rbacv1.PolicyRule) {
		_, err := rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{})
		if err == nil {
			_, err = rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
				Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}},
			}, metav1.CreateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	bind("bob", "bob", rbacv1.PolicyRule{Verbs: []string{"list"}, APIGroups: []string{""}, Resources: []string{"configmaps", "secrets"}})
	bind("alice", "alice",
		rbacv1.PolicyRule{Verbs: []string{"impersonate:user-info"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"users"}, ResourceNames: []string{"bob"}},
		rbacv1.PolicyRule{Verbs: []string{"impersonate-on:user-info:list"}, APIGroups: []string{""}, Resources: []string{"configmaps"}})
	bob := servertest.NewClient(t, as(s.Config(servertest.Default, servertest.AliceToken), rest.ImpersonationConfig{UserName: "bob"}))
	await(t, "the bindings are known", func() bool {
		_, err := bob.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
		return err == nil
	})
	_, err := bob.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	refused(t, "what bob may and alice may not as bob", err)
}
