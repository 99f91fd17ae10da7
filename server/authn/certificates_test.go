package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authentication/group"
	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// issuer is a small authority of its own, so that tests control both ends of validity.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t testing.TB, life time.Duration) *issuer {
	t.Helper()
	i := &issuer{}
	i.cert, i.key = i.sign(t, "ca", life)
	return i
}

// sign makes a certificate; an issuer that has none yet makes its own.
func (i *issuer) sign(t testing.TB, name string, life time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		BasicConstraintsValid: true, IsCA: i.cert == nil, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	parent, signer := i.cert, i.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, der), key
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// provider can change its mind about whom to trust.
type provider struct {
	dynamiccertificates.CAContentProvider
}

func (p *provider) use(t testing.TB, i *issuer) {
	t.Helper()
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
	content, err := dynamiccertificates.NewStaticCAContent("test", bundle)
	if err != nil {
		t.Fatal(err)
	}
	p.CAContentProvider = content
}

func request(cert *x509.Certificate) *http.Request {
	return &http.Request{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}}
}

func accepted(c *certificates, cert *x509.Certificate) bool {
	_, ok, err := c.AuthenticateRequest(request(cert))
	return ok && err == nil
}

func TestVerifiedOncePerConnection(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, time.Hour)
	p := &provider{}
	p.use(t, ca)
	c := newCertificates([]dynamiccertificates.CAContentProvider{p})
	leaf, _ := ca.sign(t, "ann", time.Hour)
	first, _, err := c.AuthenticateRequest(request(leaf))
	if err != nil {
		t.Fatal(err)
	}
	second, _, _ := c.AuthenticateRequest(request(leaf))
	if first != second {
		t.Error("the second request of a connection was verified again")
	}
	other := parse(t, leaf.Raw) // another connection
	if third, _, _ := c.AuthenticateRequest(request(other)); third == first || third.User.GetName() != "ann" {
		t.Errorf("got %+v", third)
	}
	if len(first.User.GetGroups()) != 1 {
		t.Errorf("groups %v", first.User.GetGroups())
	}
}

func TestForgottenWhenTheAuthorityChanges(t *testing.T) {
	t.Parallel()
	old, next := newIssuer(t, time.Hour), newIssuer(t, time.Hour)
	one, two := &provider{}, &provider{}
	one.use(t, next)
	two.use(t, old)
	c := newCertificates([]dynamiccertificates.CAContentProvider{one, two})
	leaf, _ := old.sign(t, "ann", time.Hour)
	for range 2 { // verified, then remembered
		if !accepted(c, leaf) {
			t.Fatal("refused, though the second authority knows it")
		}
	}
	two.use(t, next)
	if accepted(c, leaf) {
		t.Error("accepted after its authority was replaced")
	}
	two.use(t, old)
	if !accepted(c, leaf) {
		t.Error("refused after its authority came back")
	}
}

func TestForgottenWhenSomethingExpires(t *testing.T) {
	t.Parallel()
	for name, life := range map[string]struct{ ca, leaf time.Duration }{
		"leaf":      {4 * time.Hour, time.Hour},
		"authority": {time.Hour, 4 * time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			ca := newIssuer(t, life.ca)
			p := &provider{}
			p.use(t, ca)
			c := newCertificates([]dynamiccertificates.CAContentProvider{p})
			leaf, _ := ca.sign(t, "ann", life.leaf)
			if !accepted(c, leaf) {
				t.Fatalf("%s: refused", name)
			}
			time.Sleep(time.Hour - time.Minute)
			if !accepted(c, leaf) {
				t.Errorf("%s: refused before it expired", name)
			}
			time.Sleep(2 * time.Minute)
			if accepted(c, leaf) {
				t.Errorf("%s: accepted though expired", name)
			}
		})
	}
}

func TestClosedConnectionsAreForgotten(t *testing.T) {
	ca := newIssuer(t, time.Hour)
	p := &provider{}
	p.use(t, ca)
	c := newCertificates([]dynamiccertificates.CAContentProvider{p})
	leaf, _ := ca.sign(t, "ann", time.Hour)
	for range 3 {
		for range minSweep {
			if !accepted(c, parse(t, leaf.Raw)) {
				t.Fatal("refused")
			}
		}
		runtime.GC()
	}
	if n := len(c.known); n > 2*minSweep {
		t.Errorf("%d connections are remembered after all %d were closed", n, 3*minSweep)
	}
}

func BenchmarkCertificate(b *testing.B) {
	ca := newIssuer(b, time.Hour)
	p := &provider{}
	p.use(b, ca)
	leaf, _ := ca.sign(b, "ann", time.Hour)
	req := request(leaf)
	c := newCertificates([]dynamiccertificates.CAContentProvider{p})
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = c.AuthenticateRequest(req)
		}
	})
	upstream := group.NewAuthenticatedGroupAdder(x509request.NewDynamic(p.VerifyOptions, x509request.CommonNameUserConversion))
	b.Run("upstream", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = upstream.AuthenticateRequest(req)
		}
	})
}
