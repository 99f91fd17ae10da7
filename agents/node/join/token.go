package join

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/client-go/util/cert"
	tokenapi "k8s.io/cluster-bootstrap/token/api"
	tokens "k8s.io/cluster-bootstrap/token/util"
)

// Token lets a machine join: a bootstrap token, and the authorities that the cluster may have. Its written form is
//
//	ID.SECRET@sha256:HASH[,sha256:HASH…]
//
// Each hash is that of an authority's public key, as kubeadm's --discovery-token-ca-cert-hash has it.
type Token struct {
	ID, Secret string
	Pins       Pins
}

// ParseToken reads the written form. Errors do not repeat what they are about.
func ParseToken(text string) (Token, error) {
	token, pins, _ := strings.Cut(strings.TrimSpace(text), "@")
	if !tokens.IsValidBootstrapToken(token) {
		return Token{}, fmt.Errorf("a token must be of the form %q, and may be followed by @ and the hash of an authority's key", tokenapi.BootstrapTokenPattern)
	}
	var t Token
	t.ID, t.Secret, _ = strings.Cut(token, ".")
	if pins != "" || strings.Contains(text, "@") {
		var err error
		if t.Pins, err = ParsePins(strings.Split(pins, ",")); err != nil {
			return Token{}, err
		}
	}
	return t, nil
}

// String is the written form, with the secret.
func (t Token) String() string {
	if len(t.Pins) == 0 {
		return t.bearer()
	}
	return t.bearer() + "@" + strings.Join(t.Pins, ",")
}

func (t Token) bearer() string { return tokens.TokenFromIDAndSecret(t.ID, t.Secret) }

// Pins are hashes of public keys of authorities.
type Pins []string

const pinPrefix = "sha256:"

var pinPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ParsePins reads hashes.
func ParsePins(all []string) (Pins, error) {
	var pins Pins
	for _, pin := range all {
		pin = strings.ToLower(strings.TrimSpace(pin))
		if !pinPattern.MatchString(pin) {
			return nil, errors.New("the hash of an authority's key must be sha256: and 64 hexadecimal digits")
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

// PinsOf are those of the authorities in a PEM bundle.
func PinsOf(bundle []byte) (Pins, error) {
	certs, err := parse(bundle)
	if err != nil {
		return nil, err
	}
	var pins Pins
	for _, c := range certs {
		if pin := pinOf(c); !slices.Contains(pins, pin) {
			pins = append(pins, pin)
		}
	}
	return pins, nil
}

func pinOf(c *x509.Certificate) string {
	hash := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return pinPrefix + hex.EncodeToString(hash[:])
}

// of is what is pinned of a bundle, PEM; empty: nothing. An authority beside them, which somebody on the way may have added, is not
// believed.
func (p Pins) of(bundle []byte) []byte {
	certs, err := parse(bundle)
	if err != nil {
		return nil
	}
	var pinned []byte
	for _, c := range certs {
		if slices.Contains(p, pinOf(c)) {
			pinned = append(pinned, pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: c.Raw})...)
		}
	}
	return pinned
}

// parse reads a bundle, which must hold something.
func parse(bundle []byte) ([]*x509.Certificate, error) { return cert.ParseCertsPEM(bundle) }
