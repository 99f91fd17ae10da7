package authn

import (
	"crypto/ecdsa"
	"fmt"
	"net/http"
	"strconv"

	"k8s.io/kubernetes/pkg/serviceaccount"
)

// Issuer signs service account tokens and publishes what others need to verify them.
type Issuer struct {
	// URL is the tokens' issuer.
	URL string
	// Keys are all keys that tokens may be signed with, as Config wants them.
	Keys serviceaccount.PublicKeysGetter
	// Tokens signs.
	Tokens serviceaccount.TokenGenerator

	metadata serviceaccount.OpenIDMetadataProvider
}

// IssuerConfig describes an Issuer.
type IssuerConfig struct {
	URL     string
	Signing *ecdsa.PrivateKey
	// Trusted are the keys that tokens are verified with, the signing one among them.
	Trusted []*ecdsa.PublicKey
	// KeysURL is where others find the keys. Empty: the usual path at ExternalAddress, which is host:port.
	KeysURL, ExternalAddress string
}

// NewIssuer returns the issuer, and the reason why it cannot be discovered by others, which is no error: upstream, too,
// serves clusters whose issuer is not an https URL. Discovery then answers that there is nothing.
func NewIssuer(c IssuerConfig) (issuer *Issuer, undiscoverable, err error) {
	keys := make([]any, len(c.Trusted))
	for i, k := range c.Trusted {
		keys[i] = k
	}
	i := &Issuer{URL: c.URL}
	if i.Keys, err = serviceaccount.StaticPublicKeysGetter(keys); err != nil {
		return nil, nil, fmt.Errorf("service account keys: %w", err)
	}
	if i.Tokens, err = serviceaccount.JWTTokenGenerator(c.URL, c.Signing); err != nil {
		return nil, nil, fmt.Errorf("service account signing key: %w", err)
	}
	i.metadata, undiscoverable = serviceaccount.NewOpenIDMetadataProvider(c.URL, c.KeysURL, c.ExternalAddress, i.Keys)
	if undiscoverable != nil {
		i.metadata = nil
	}
	return i, undiscoverable, nil
}

// Paths that the two handlers are served at.
const (
	ConfigurationPath = serviceaccount.OpenIDConfigPath
	KeySetPath        = serviceaccount.JWKSPath
)

// Configuration serves the issuer's OpenID Connect discovery document.
func (i *Issuer) Configuration() http.Handler {
	return i.serve("application/json", serviceaccount.OpenIDMetadataProvider.GetConfigJSON)
}

// KeySet serves the issuer's public keys.
func (i *Issuer) KeySet() http.Handler {
	return i.serve("application/jwk-set+json", serviceaccount.OpenIDMetadataProvider.GetKeysetJSON)
}

func (i *Issuer) serve(mediaType string, get func(serviceaccount.OpenIDMetadataProvider) ([]byte, int)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if i.metadata == nil {
			http.NotFound(w, req)
			return
		}
		body, maxAge := get(i.metadata)
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(maxAge))
		_, _ = w.Write(body) // the client is gone: nobody to tell
	})
}
