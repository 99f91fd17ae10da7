package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/server/pki"
)

func TestHandshake(t *testing.T) {
	t.Parallel()
	id := load(t, newCluster(t, 1)[0], newKeys(t))
	other := load(t, newCluster(t, 1)[0], newKeys(t))
	hosts := pki.Hosts(net.ParseIP("10.96.0.1"), "cluster.local", "api.example.com", "192.0.2.7", "*.example.org", "")
	serving, err := pki.NewServing(id.ClusterCA, hosts)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := id.ClusterCA.IssueClient(pki.Admin())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.ClusterCA.IssueClient(pki.Admin())
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := id.FrontProxyCA.IssueClient(pki.FrontProxy())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		host   string
		pool   *x509.CertPool
		client *pki.KeyPair
		ok     bool
	}{
		"localhost":              {"localhost", id.ClusterCA.Pool(), admin, true},
		"IPv4":                   {"127.0.0.1", id.ClusterCA.Pool(), admin, true},
		"IPv6":                   {"::1", id.ClusterCA.Pool(), admin, true},
		"service":                {"kubernetes.default.svc.cluster.local", id.ClusterCA.Pool(), admin, true},
		"service address":        {"10.96.0.1", id.ClusterCA.Pool(), admin, true},
		"given name":             {"api.example.com", id.ClusterCA.Pool(), admin, true},
		"given address":          {"192.0.2.7", id.ClusterCA.Pool(), admin, true},
		"wildcard":               {"a.example.org", id.ClusterCA.Pool(), admin, true},
		"other name":             {"evil.example.com", id.ClusterCA.Pool(), admin, false},
		"other cluster's pool":   {"localhost", other.ClusterCA.Pool(), admin, false},
		"other cluster's client": {"localhost", id.ClusterCA.Pool(), foreign, false},
		"front proxy as client":  {"localhost", id.ClusterCA.Pool(), proxy, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := handshake(&tls.Config{
				GetCertificate: serving.GetCertificate,
				ClientAuth:     tls.RequireAndVerifyClientCert,
				ClientCAs:      id.ClusterCA.Pool(),
			}, &tls.Config{
				ServerName:   tc.host,
				RootCAs:      tc.pool,
				Certificates: []tls.Certificate{tc.client.TLS},
			})
			if (err == nil) != tc.ok {
				t.Errorf("handshake: %v", err)
			}
		})
	}
}

// handshake returns the first error of either side.
func handshake(server, client *tls.Config) error {
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	done := make(chan error, 1)
	go func() {
		err := tls.Server(left, server).Handshake()
		if err != nil {
			_ = left.Close()
		}
		done <- err
	}()
	conn := tls.Client(right, client)
	err := conn.Handshake()
	if err == nil {
		// The server judges the client's certificate after the client is done, and says so in the next record.
		go func() { _, _ = conn.Read(make([]byte, 1)) }()
	} else {
		_ = right.Close()
	}
	if serverErr := <-done; err == nil {
		err = serverErr
	}
	return err
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	id := load(t, newCluster(t, 1)[0], newKeys(t))
	pair, err := id.ClusterCA.IssueClient(pki.Client{
		User: "system:kube-scheduler", Groups: []string{"a", "b"}, Lifetime: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	leaf := pair.TLS.Leaf
	if leaf.Subject.CommonName != "system:kube-scheduler" {
		t.Errorf("user %q", leaf.Subject.CommonName)
	}
	if diff := cmp.Diff([]string{"a", "b"}, leaf.Subject.Organization); diff != "" {
		t.Errorf("groups: %s", diff)
	}
	if left := time.Until(leaf.NotAfter); left > time.Hour || left < 50*time.Minute {
		t.Errorf("valid for %v", left)
	}
	if leaf.IsCA {
		t.Error("a client certificate may not sign others")
	}
	if _, err := tls.X509KeyPair(pair.CertPEM, pair.KeyPEM); err != nil {
		t.Errorf("PEM forms do not fit: %v", err)
	}
	if _, err := id.ClusterCA.IssueClient(pki.Client{}); err == nil {
		t.Error("a certificate for nobody was issued")
	}
	long, err := id.ClusterCA.IssueClient(pki.Client{User: "u", Lifetime: 100 * pki.Lifetime})
	if err != nil || long.TLS.Leaf.NotAfter.After(id.ClusterCA.Certificate().NotAfter) {
		t.Errorf("a certificate outlives its authority: %v", err)
	}
}

func TestServingStaysFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		id := load(t, newCluster(t, 1)[0], newKeys(t))
		s, err := pki.NewServing(id.ClusterCA, []string{"localhost"})
		if err != nil {
			t.Fatal(err)
		}
		get := func() *tls.Certificate {
			t.Helper()
			c, err := s.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		first := get()
		if get() != first {
			t.Error("issued again without a reason")
		}
		if err := s.SetHosts([]string{"localhost"}); err != nil || get() != first {
			t.Errorf("issued again for the same hosts: %v", err)
		}
		if err := s.SetHosts([]string{"https://host"}); err == nil || get() != first {
			t.Errorf("hosts that are none: %v", err)
		}
		if err := s.SetHosts([]string{"localhost", "b"}); err != nil {
			t.Fatal(err)
		}
		second := get()
		if err := second.Leaf.VerifyHostname("b"); err != nil {
			t.Error(err)
		}
		time.Sleep(pki.Lifetime / 2)
		if get() != second {
			t.Error("issued again at half its life")
		}
		time.Sleep(pki.Lifetime / 4)
		third := get()
		if left := time.Until(third.Leaf.NotAfter); left != pki.Lifetime {
			t.Errorf("at three quarters of its life %v are left, want a new one", left)
		}
		if err := third.Leaf.VerifyHostname("b"); err != nil {
			t.Error(err)
		}
	})
}

func TestIssueServingRefuses(t *testing.T) {
	t.Parallel()
	id := load(t, newCluster(t, 1)[0], newKeys(t))
	for _, host := range []string{"", "a b", "host:6443", "https://host", "fe80::1%eth0", "a..b", "[::1]", "*"} {
		if _, err := id.ClusterCA.IssueServing([]string{host}, time.Hour); err == nil {
			t.Errorf("%q was accepted", host)
		}
	}
}
