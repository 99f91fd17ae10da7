package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/certificate"
)

func selfSigned(t *testing.T, name string, until time.Time) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

const token = "abcdef.0123456789abcdef"

func TestParseToken(t *testing.T) {
	t.Parallel()
	pin, other := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for text, want := range map[string]Token{
		token:                           {ID: "abcdef", Secret: "0123456789abcdef"},
		token + "@" + pin:               {ID: "abcdef", Secret: "0123456789abcdef", Pins: Pins{pin}},
		token + "@" + pin + "," + other: {ID: "abcdef", Secret: "0123456789abcdef", Pins: Pins{pin, other}},
	} {
		got, err := ParseToken(text + "\n")
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v, %s", text, err, d)
		}
		if got.String() != text {
			t.Errorf("%s becomes %s", text, got)
		}
	}
	for _, text := range []string{"", "abcdef", "ABCDEF.0123456789abcdef", token + "@", token + "@md5:00", token + "@sha256:aa", token + "x"} {
		if _, err := ParseToken(text); err == nil || strings.Contains(err.Error(), "0123456789abcdef") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestPins: what somebody added to the pinned authority is not believed with it.
func TestPins(t *testing.T) {
	t.Parallel()
	ours, _ := selfSigned(t, "ours", time.Now().Add(time.Hour))
	theirs, _ := selfSigned(t, "theirs", time.Now().Add(time.Hour))
	pins, err := PinsOf(ours)
	if err != nil {
		t.Fatal(err)
	}
	if got := pins.of(slices.Concat(theirs, ours)); string(got) != string(ours) {
		t.Errorf("of both is kept %s", got)
	}
	if got := pins.of(theirs); len(got) > 0 {
		t.Errorf("of another is kept %s", got)
	}
	if got := pins.of([]byte("nonsense")); len(got) > 0 {
		t.Errorf("of nonsense is kept %s", got)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	s := &store{path: filepath.Join(t.TempDir(), "c.pem")}
	var none *certificate.NoCertKeyError
	if _, err := s.Current(); !errors.As(err, &none) {
		t.Errorf("an empty store: %v", err)
	}
	cert, key := selfSigned(t, "first", time.Now().Add(time.Hour))
	if _, err := s.Update(cert, key); err != nil {
		t.Fatal(err)
	}
	other, _ := selfSigned(t, "second", time.Now().Add(time.Hour))
	if _, err := s.Update(other, key); err == nil {
		t.Error("a certificate of another key was stored")
	}
	got, err := s.Current()
	if err != nil || got.Leaf.Subject.CommonName != "first" {
		t.Errorf("%v, %v", got, err)
	}
	if info, err := os.Stat(s.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if left, err := os.ReadDir(filepath.Dir(s.path)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if err := os.WriteFile(s.path, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Current(); err == nil || errors.As(err, &none) {
		t.Errorf("a broken file: %v", err)
	}
}

// TestPendingKeySurvives: an agent that died while it waited goes on with the same request.
func TestPendingKeySurvives(t *testing.T) {
	t.Parallel()
	m := &Member{cfg: Config{Dir: t.TempDir(), Node: "a"}}
	first, _, err := m.pending()
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := m.pending()
	if err != nil {
		t.Fatal(err)
	}
	one, err := requestName(first.Public(), "a")
	if err != nil {
		t.Fatal(err)
	}
	two, err := requestName(second.Public(), "a")
	if err != nil || one != two {
		t.Errorf("%s, then %s, %v", one, two, err)
	}
	if other, err := requestName(first.Public(), "b"); err != nil || other == one {
		t.Errorf("for another node %s, %v", other, err)
	}
}

// TestDiscover meets servers that are not what the token is for, or say nothing of use.
func TestDiscover(t *testing.T) {
	t.Parallel()
	ours, _ := selfSigned(t, "ours", time.Now().Add(time.Hour))
	theirs, _ := selfSigned(t, "theirs", time.Now().Add(time.Hour))
	pins, err := PinsOf(ours)
	if err != nil {
		t.Fatal(err)
	}
	info := func(authority []byte) string {
		config := api.NewConfig()
		config.Clusters[""] = &api.Cluster{Server: "https://elsewhere", CertificateAuthorityData: authority}
		text, err := clientcmd.Write(*config)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(corev1.ConfigMap{Data: map[string]string{"kubeconfig": string(text)}})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for name, tt := range map[string]struct {
		code int
		body string
		want string
		is   error
	}{
		"the pinned one":     {code: 200, body: info(ours)},
		"another one":        {code: 200, body: info(theirs), is: ErrPin},
		"nothing for anyone": {code: 401, want: "--certificate-authority"},
		"forbidden":          {code: 403, want: "--certificate-authority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Authorization") != "" {
					t.Error("the token was told to somebody unknown")
				}
				if req.URL.Path != "/api/v1/namespaces/kube-public/configmaps/cluster-info" {
					t.Errorf("asked for %s", req.URL)
				}
				w.WriteHeader(tt.code)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer server.Close()
			m := &Member{cfg: Config{Token: Token{ID: "abcdef", Secret: "0123456789abcdef", Pins: pins}, Log: slog.New(slog.DiscardHandler)}, server: server.URL}
			found, err := m.discover(t.Context())
			switch {
			case tt.is != nil && !errors.Is(err, tt.is), tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v", err)
			case tt.is == nil && tt.want == "" && (err != nil || string(found) != string(ours)):
				t.Errorf("%s, %v", found, err)
			}
		})
	}
}

// TestExpired: with a certificate that has expired and no token there is nothing to do; with one of another name even less.
func TestExpired(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := selfSigned(t, "system:node:a", time.Now().Add(-time.Minute))
	if _, err := (&store{path: filepath.Join(dir, clientFile)}).Update(cert, key); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	cfg := Config{Dir: dir, Node: "a", Server: server.URL, Authority: authority, Log: slog.New(slog.DiscardHandler)}
	if _, err := Join(t.Context(), cfg); !errors.Is(err, ErrNoToken) {
		t.Errorf("%v", err)
	}
	cfg.Issue = func(node string) ([]byte, []byte, error) {
		cert, key := selfSigned(t, "system:node:"+node, time.Now().Add(time.Hour))
		return cert, key, nil
	}
	m, err := Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if m.Config().Host != server.URL {
		t.Errorf("it talks to %s", m.Config().Host)
	}
	cfg.Node = "b"
	if _, err := Join(t.Context(), cfg); !errors.Is(err, ErrOther) {
		t.Errorf("as another node: %v", err)
	}
}

func TestServingRequest(t *testing.T) {
	t.Parallel()
	if r := servingRequest("a", []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "a"}}); r != nil {
		t.Errorf("without an address: %v", r)
	}
	r := servingRequest("a", []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: "a"},
		{Type: corev1.NodeInternalIP, Address: "192.0.2.9"},
		{Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
		{Type: corev1.NodeInternalDNS, Address: "a"},
		{Type: corev1.NodeExternalIP, Address: "192.0.2.9"},
		{Type: corev1.NodeInternalIP, Address: "no address"},
	})
	if !slices.Equal(r.DNSNames, []string{"a"}) || len(r.IPAddresses) != 2 || r.IPAddresses[0].String() != "192.0.2.1" || r.Subject.CommonName != "system:node:a" {
		t.Errorf("%+v", r)
	}
}
