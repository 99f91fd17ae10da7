package authn

import (
	"crypto/ecdsa"
	"fmt"
	"net/http"
	"strconv"

	"k8s.io/client-go/util/keyutil"
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
	Signing any // a private RSA or ECDSA key
	// Signer signs in place of Signing, with keys that nobody here knows.
	Signer serviceaccount.TokenGenerator
	// Keys are what tokens are verified with in place of Trusted.
	Keys serviceaccount.PublicKeysGetter
	// Trusted are the public keys that tokens are verified with, the signing one among them.
	Trusted []any
	// KeysURL is where others find the keys. Empty: the usual path at ExternalAddress, which is host:port.
	KeysURL, ExternalAddress string
}

// NewIssuer returns the issuer, and the reason why it cannot be discovered by others, which is no error: upstream, too,
// serves clusters whose issuer is not an https URL. Discovery then answers that there is nothing.
func NewIssuer(c IssuerConfig) (issuer *Issuer, undiscoverable, err error) {
	i := &Issuer{URL: c.URL, Keys: c.Keys, Tokens: c.Signer}
	if i.Keys == nil {
		if i.Keys, err = serviceaccount.StaticPublicKeysGetter(c.Trusted); err != nil {
			return nil, nil, fmt.Errorf("service account keys: %w", err)
		}
	}
	if i.Tokens == nil {
		if i.Tokens, err = serviceaccount.JWTTokenGenerator(c.URL, c.Signing); err != nil {
			return nil, nil, fmt.Errorf("service account signing key: %w", err)
		}
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

// PublicKeys are a cluster's own keys and those in files of PEM, which may hold several, public or private.
func PublicKeys(own []*ecdsa.PublicKey, files ...string) ([]any, error) {
	var keys []any
	for _, k := range own {
		keys = append(keys, k)
	}
	for _, file := range files {
		more, err := keyutil.PublicKeysFromFile(file)
		if err != nil {
			return nil, fmt.Errorf("service account keys: %w", err)
		}
		keys = append(keys, more...)
	}
	return keys, nil
}
