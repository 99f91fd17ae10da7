package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	// skew is how far behind a client's clock may be and still accept what was just issued.
	skew = 5 * time.Minute
)

// Authority issues certificates and knows those it issued. It is immutable and safe for concurrent use.
type Authority struct {
	certs  []*x509.Certificate // the first signs
	key    *ecdsa.PrivateKey   // of the first
	bundle []byte
	pool   *x509.CertPool
}

// Bundle returns the certificates to trust, in PEM. It is shared: do not change it.
func (a *Authority) Bundle() []byte { return a.bundle }

// Pool returns the certificates to trust. It is shared: do not change it.
func (a *Authority) Pool() *x509.CertPool { return a.pool }

// Certificate returns the certificate that new ones are signed under.
func (a *Authority) Certificate() *x509.Certificate { return a.certs[0] }

// Signer returns the key of Certificate, for those who answer certificate signing requests.
func (a *Authority) Signer() crypto.Signer { return a.key }

// issue signs a leaf certificate for a new key. It is valid from a little before now, and never longer than the
// authority itself.
func (a *Authority) issue(template x509.Certificate, lifetime time.Duration) (*KeyPair, error) {
	now := time.Now()
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	template.NotBefore = now.Add(-skew)
	template.NotAfter = now.Add(lifetime)
	if end := a.certs[0].NotAfter; template.NotAfter.After(end) {
		template.NotAfter = end
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, &template, a.certs[0], &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return newKeyPair(der, key)
}

func newAuthority(name string, now time.Time) (pemPair, error) {
	key, err := newKey()
	if err != nil {
		return pemPair{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return pemPair{}, err
	}
	template := x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return pemPair{}, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return pemPair{}, err
	}
	return pemPair{Cert: pemBlock(encodeCert(der)), Key: pemBlock(keyPEM)}, nil
}

func loadAuthority(pairs []pemPair) (*Authority, error) {
	a := &Authority{pool: x509.NewCertPool()}
	for i, pair := range pairs {
		cert, err := decodeCert([]byte(pair.Cert))
		if err != nil {
			return nil, err
		}
		if i == 0 {
			if a.key, err = decodeKey([]byte(pair.Key)); err != nil {
				return nil, err
			}
			if !a.key.PublicKey.Equal(cert.PublicKey) {
				return nil, errors.New("certificate and key do not belong together")
			}
		}
		a.certs = append(a.certs, cert)
		a.bundle = append(a.bundle, encodeCert(cert.Raw)...)
		a.pool.AddCert(cert)
	}
	return a, nil
}

// newSerial draws a serial number as RFC 5280 wants it: positive, of at most 20 octets, not guessable.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

// PEM returns the certificate that signs and its key, for signers that are not ours.
func (a *Authority) PEM() (cert, key []byte, err error) {
	pair, err := newKeyPair(a.certs[0].Raw, a.key)
	if err != nil {
		return nil, nil, err
	}
	return pair.CertPEM, pair.KeyPEM, nil
}
