package authn_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/server/authn"
	"github.com/rowlock-io/rowlock/server/pki"
)

func serve(h http.Handler) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	return w.Result()
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	id := newIdentity(t)
	issuer := newIssuer(id)
	var config struct {
		Issuer     string   `json:"issuer"`
		KeysURL    string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	resp := serve(issuer.Configuration())
	if err := json.NewDecoder(resp.Body).Decode(&config); err != nil {
		t.Fatal(err)
	}
	want := config
	want.Issuer, want.KeysURL, want.Algorithms = issuerURL, "https://127.0.0.1:6443/openid/v1/jwks", []string{"ES256"}
	if diff := cmp.Diff(want, config); diff != "" {
		t.Error(diff)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	if got := resp.Header.Get("Cache-Control"); got != "public, max-age=3600" {
		t.Errorf("cache control %q", got)
	}

	var keys struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	resp = serve(issuer.KeySet())
	if err := json.NewDecoder(resp.Body).Decode(&keys); err != nil {
		t.Fatal(err)
	}
	wantID := must(pki.KeyID(id.ServiceAccountPublicKeys()[0]))
	if len(keys.Keys) != 1 || keys.Keys[0].ID != wantID {
		t.Errorf("keys %+v, want one with id %s", keys.Keys, wantID)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/jwk-set+json" {
		t.Errorf("content type %q", got)
	}
}

func TestIssuerThatCannotBeDiscovered(t *testing.T) {
	t.Parallel()
	id := newIdentity(t)
	issuer, undiscoverable, err := authn.NewIssuer(authn.IssuerConfig{
		URL: "http://plain", Signing: id.ServiceAccountKey(), Trusted: must(authn.PublicKeys(id.ServiceAccountPublicKeys())), ExternalAddress: "h:1",
	})
	if err != nil || undiscoverable == nil {
		t.Fatalf("got %v and %v, want only the second", err, undiscoverable)
	}
	if token(t, issuer, "a") == "" {
		t.Error("it signs no tokens")
	}
	for _, h := range []http.Handler{issuer.Configuration(), issuer.KeySet()} {
		if code := serve(h).StatusCode; code != http.StatusNotFound {
			t.Errorf("status %d", code)
		}
	}
}
