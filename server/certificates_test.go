package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/server"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// issued writes a serving certificate and its key, and returns where.
func issued(t *testing.T, a *pki.Authority, dir, file string, hosts ...string) (cert, key string) {
	t.Helper()
	pair, err := a.IssueServing(hosts, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, file+".crt"), filepath.Join(dir, file+".key")
	write(t, key, pair.KeyPEM)
	write(t, cert, pair.CertPEM)
	return cert, key
}

// shown is the certificate that a client sees who asks for a name; "" asks for none.
func shown(t *testing.T, s *servertest.Server, name string) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // the test looks at it
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0]
}

// The operator's certificates are shown where they are for the name, are read again when they change, and leave the
// names that only the cluster's own certificate is for to that one.
func TestCertificatesOfTheOperator(t *testing.T) {
	t.Parallel()
	dir, first, second := t.TempDir(), authority(t), authority(t)
	cert, key := issued(t, first, dir, "main", "api.example.com")
	namedCert, namedKey := issued(t, first, dir, "named", "other.example.com")
	s := servertest.Start(t, servertest.Config{Clusters: []string{"red"}, Domain: "k8s.example.com", TLS: server.TLS{
		CertFile: cert, KeyFile: key,
		Named: []server.NamedCertificate{
			{CertFile: namedCert, KeyFile: namedKey},
			{CertFile: namedCert, KeyFile: namedKey, Names: []string{"*.wild.example.com"}},
		},
	}})
	from := func(name string, a *pki.Authority, host string) {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(a.Bundle())
		if _, err := shown(t, s, name).Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("asked for %q: %v", name, err)
		}
	}
	own := s.Identity(servertest.Default).ClusterCA
	from("api.example.com", first, "api.example.com")
	from("", first, "api.example.com")
	from("unknown.example.com", first, "api.example.com")
	from("other.example.com", first, "other.example.com")
	from("a.wild.example.com", first, "other.example.com")
	from("kubernetes.default.svc", own, "kubernetes.default.svc")
	from("red.k8s.example.com", s.Identity("red").ClusterCA, "red.k8s.example.com")

	// Half of a change is not shown.
	write(t, cert, []byte("nonsense"))
	from("api.example.com", first, "api.example.com")
	issued(t, second, dir, "main", "api.example.com")
	await(t, "the new certificate", func() bool {
		return shown(t, s, "api.example.com").CheckSignatureFrom(parsed(t, second)) == nil
	})
	from("", second, "api.example.com")
	from("other.example.com", first, "other.example.com")
	for _, bad := range []server.TLS{
		{CertFile: cert, KeyFile: namedKey},
		{CertFile: cert, KeyFile: filepath.Join(dir, "missing")},
		{Named: []server.NamedCertificate{{CertFile: key, KeyFile: key}}},
	} {
		if s, err := servertest.Open(t.Context(), t.TempDir(), servertest.Config{TLS: bad}); err == nil {
			t.Errorf("%+v was accepted", bad)
			_ = s.Stop()
		}
	}
}

func parsed(t *testing.T, a *pki.Authority) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(a.Bundle())
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Certificates for some names leave the rest to the cluster's own.
func TestCertificatesForNamesOnly(t *testing.T) {
	t.Parallel()
	a := authority(t)
	cert, key := issued(t, a, t.TempDir(), "named", "api.example.com")
	s := servertest.Start(t, servertest.Config{TLS: server.TLS{
		Named: []server.NamedCertificate{{CertFile: cert, KeyFile: key}}, MinVersion: tls.VersionTLS13,
	}})
	if err := shown(t, s, "api.example.com").VerifyHostname("api.example.com"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "unknown.example.com", "localhost"} {
		if err := shown(t, s, name).VerifyHostname("kubernetes.default.svc"); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "localhost", "api.example.com"} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}) //nolint:gosec // it fails before
		if err == nil {
			t.Errorf("%q: TLS 1.2 is spoken", name)
			_ = conn.Close()
		}
	}
}
