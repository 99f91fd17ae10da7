package authn_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"github.com/rowlock-io/rowlock/server/authn"
	"github.com/rowlock-io/rowlock/server/pki"
)

// fixture is a cluster with everything switched on.
type fixture struct {
	id       *pki.Identity
	issuer   *authn.Issuer
	accounts *accounts
	config   authn.Config
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	id := newIdentity(t)
	f := &fixture{id: id, issuer: newIssuer(id), accounts: &accounts{}}
	file := filepath.Join(t.TempDir(), "tokens.csv")
	if err := os.WriteFile(file, []byte("s3cret,ann,42,\"a,b\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.config = authn.Config{
		ClientCAs: []dynamiccertificates.CAContentProvider{trust(id.ClusterCA)},
		FrontProxies: []*authenticatorfactory.RequestHeaderConfig{{
			CAContentProvider:   trust(id.FrontProxyCA),
			AllowedClientNames:  headerrequest.StaticStringSlice{"front-proxy-client"},
			UsernameHeaders:     headerrequest.StaticStringSlice{"X-Remote-User"},
			UIDHeaders:          headerrequest.StaticStringSlice{"X-Remote-Uid"},
			GroupHeaders:        headerrequest.StaticStringSlice{"X-Remote-Group"},
			ExtraHeaderPrefixes: headerrequest.StaticStringSlice{"X-Remote-Extra-"},
		}},
		TokenFile:       file,
		ServiceAccounts: &authn.ServiceAccounts{Issuers: []string{issuerURL}, Keys: f.issuer.Keys, Lookup: f.accounts},
		Anonymous:       apiserver.AnonymousAuthConfig{Enabled: true},
	}
	return f
}

func (f *fixture) authenticator(t testing.TB) *authn.Authenticator {
	t.Helper()
	a, err := authn.New(f.config)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ask does what the server does with a request.
func ask(a *authn.Authenticator, req *http.Request) (*authenticator.Response, bool, error) {
	return a.Request.AuthenticateRequest(req.WithContext(authenticator.WithAudiences(req.Context(), a.APIAudiences)))
}

func TestWhoSentIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.authenticator(t)
	admin := must(f.id.ClusterCA.IssueClient(pki.Admin()))
	foreign := must(newIdentity(t).ClusterCA.IssueClient(pki.Admin()))
	proxy := must(f.id.FrontProxyCA.IssueClient(pki.FrontProxy()))
	otherProxy := must(f.id.FrontProxyCA.IssueClient(pki.Client{User: "somebody"}))
	bot := token(t, f.issuer, issuerURL)
	elsewhere := token(t, f.issuer, "https://elsewhere")
	stranger := token(t, newIssuer(newIdentity(t)), issuerURL)
	const all = "system:authenticated"
	for name, tc := range map[string]struct {
		req    *http.Request
		user   string // "": refused with an error
		groups []string
	}{
		"nobody":                     {get("/"), "system:anonymous", []string{"system:unauthenticated"}},
		"certificate":                {withCert(get("/"), admin), "kubernetes-admin", []string{"system:masters", all}},
		"foreign certificate":        {withCert(get("/"), foreign), "", nil},
		"static token":               {get("/", "Authorization", "Bearer s3cret"), "ann", []string{"a", "b", all}},
		"wrong token":                {get("/", "Authorization", "Bearer wrong"), "", nil},
		"service account":            {get("/", "Authorization", "Bearer "+bot), "system:serviceaccount:red:bot", []string{"system:serviceaccounts", "system:serviceaccounts:red", all}},
		"token for another audience": {get("/", "Authorization", "Bearer "+elsewhere), "", nil},
		"token with a foreign key":   {get("/", "Authorization", "Bearer "+stranger), "", nil},
		"front proxy":                {withCert(get("/", "X-Remote-User", "bob", "X-Remote-Group", "g"), proxy), "bob", []string{"g", all}},
		"front proxy without a word": {withCert(get("/"), proxy), "", nil},
		"unknown front proxy":        {withCert(get("/", "X-Remote-User", "bob"), otherProxy), "", nil},
		"client posing as a proxy":   {withCert(get("/", "X-Remote-User", "bob"), admin), "kubernetes-admin", []string{"system:masters", all}},
		"posing without certificate": {get("/", "X-Remote-User", "bob"), "system:anonymous", []string{"system:unauthenticated"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // what is remembered must say the same
				resp, ok, err := ask(a, tc.req.Clone(t.Context()))
				if tc.user == "" {
					if ok || err == nil {
						t.Fatalf("got %+v, %v, want an error", resp, ok)
					}
					continue
				}
				if !ok || err != nil {
					t.Fatalf("refused: %v", err)
				}
				got := append([]string{resp.User.GetName()}, resp.User.GetGroups()...)
				if diff := cmp.Diff(append([]string{tc.user}, tc.groups...), got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestServiceAccountTokenLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.authenticator(t)
		known := func() bool {
			_, ok, _ := ask(a, get("/", "Authorization", "Bearer "+token(t, f.issuer, issuerURL)))
			return ok
		}
		old := token(t, f.issuer, issuerURL)
		for _, tc := range []struct {
			after time.Duration
			want  bool
		}{{30 * time.Minute, true}, {2 * time.Hour, false}} {
			time.Sleep(tc.after)
			if _, ok, err := a.Token.AuthenticateToken(t.Context(), old); ok != tc.want {
				t.Errorf("after another %v: %v, %v", tc.after, ok, err)
			}
		}
		if !known() {
			t.Error("a fresh token is refused")
		}
		f.accounts.gone.Store(true)
		time.Sleep(authn.TokenCacheTTL + time.Second)
		if known() {
			t.Error("the token of a deleted service account is accepted")
		}
	})
}

func TestAnonymousConditions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.config.Anonymous.Conditions = []apiserver.AnonymousAuthCondition{{Path: "/livez"}}
	a := f.authenticator(t)
	for path, want := range map[string]bool{"/livez": true, "/api": false} {
		if _, ok, err := ask(a, get(path)); ok != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", path, ok, err, want)
		}
	}
	f.config.Anonymous = apiserver.AnonymousAuthConfig{}
	if _, ok, err := ask(f.authenticator(t), get("/livez")); ok || err != nil {
		t.Errorf("anonymous switched off: %v, %v", ok, err)
	}
}

func TestBadConfigs(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "tokens.csv")
	if err := os.WriteFile(broken, []byte("only,two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]authn.Config{
		"nothing":                {},
		"missing token file":     {TokenFile: broken + ".none"},
		"broken token file":      {TokenFile: broken},
		"service accounts, bare": {ServiceAccounts: &authn.ServiceAccounts{}},
	} {
		if _, err := authn.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if a, err := authn.New(authn.Config{Anonymous: apiserver.AnonymousAuthConfig{Enabled: true}}); err != nil || a.Token != nil {
		t.Errorf("anonymous alone: %v, %v", a, err)
	}
}

func TestAudiencesDefaultToTheIssuers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if got := f.authenticator(t).APIAudiences; !slices.Equal(got, []string{issuerURL}) {
		t.Errorf("got %v", got)
	}
	f.config.APIAudiences = authenticator.Audiences{"mine"}
	a := f.authenticator(t)
	if _, ok, _ := ask(a, get("/", "Authorization", "Bearer "+token(t, f.issuer, issuerURL))); ok {
		t.Error("a token for the issuer is accepted where only another audience is")
	}
	if _, ok, err := ask(a, get("/", "Authorization", "Bearer "+token(t, f.issuer, "mine"))); !ok {
		t.Errorf("refused: %v", err)
	}
}
