package discovery

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coreos/go-oidc"
	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// The test's binary is the verifying program too, when it is started with this in its environment: the directory in which
// a pod would find its token and the authority of the server, and the server's address.
const asProgram = "ROWLOCK_TEST_VERIFY"

const audience = "oidc-discovery-test"

func TestMain(m *testing.M) {
	if where := os.Getenv(asProgram); where != "" {
		dir, server, _ := strings.Cut(where, "|")
		if err := verify(context.Background(), dir, server); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// verify finds the issuer that the token names and has it vouch for the token.
func verify(ctx context.Context, dir, server string) error {
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		return err
	}
	issuer, err := named(string(token))
	if err != nil {
		return err
	}
	transport, err := rest.TransportFor(&rest.Config{
		Host: server, BearerTokenFile: filepath.Join(dir, "token"),
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(dir, "ca.crt")},
		// In a pod the name of the Service leads to the server.
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "kubernetes.default.svc") {
				address = server
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	})
	if err != nil {
		return err
	}
	ctx = oidc.ClientContext(ctx, &http.Client{Transport: transport})
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return err
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{oidc.RS256, oidc.ES256}}).Verify(ctx, string(token))
	if err != nil {
		return err
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(claims)
}

// named is the issuer that a token says it is from, which nobody has verified yet.
func named(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("not a JWT")
	}
	payload, err := decode(parts[1])
	if err != nil {
		return "", err
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	err = json.Unmarshal(payload, &claims)
	return claims.Issuer, err
}

func TestOthersCanVerifyServiceAccountTokens(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t)
		client, config := server.Client(t), server.Config(t)
		const ns = "discovery"
		harness.NewNamespace(t, client, ns)
		// As upstream's test grants it.
		_, err := client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "discovery"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:service-account-issuer-discovery"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: "default"}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		seconds := int64(3600)
		request := func(audiences ...string) string {
			r, err := client.CoreV1().ServiceAccounts(ns).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{
				Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds, Audiences: audiences},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return r.Status.Token
		}
		// The program's token is for the server, which serves the documents to it, and for the audience that it checks.
		issuer, err := named(request())
		if err != nil {
			t.Fatal(err)
		}
		token := request(issuer, audience)
		out, err := run(t, server.URL, config.CAData, token)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var claims struct {
			Issuer  string   `json:"iss"`
			Subject string   `json:"sub"`
			For     []string `json:"aud"`
		}
		if err := json.Unmarshal(out, &claims); err != nil {
			t.Fatal(err)
		}
		if claims.Issuer != issuer || claims.Subject != "system:serviceaccount:"+ns+":default" || len(claims.For) != 2 {
			t.Errorf("%+v", claims)
		}
		// What is not for the audience, or was changed, is not verified.
		if out, err := run(t, server.URL, config.CAData, request(issuer)); err == nil {
			t.Errorf("a token for others was verified: %s", out)
		}
		if out, err := run(t, server.URL, config.CAData, token[:len(token)-8]+"AAAAAAAA"); err == nil {
			t.Errorf("a token with another signature was verified: %s", out)
		}
	}, harness.SQLite, harness.OnPostgres)
}

// run is one run of the verifying program.
func run(t *testing.T, server string, ca []byte, token string) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string][]byte{"ca.crt": ca, "token": []byte(token)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), asProgram+"="+dir+"|"+at.Host)
	return cmd.Output()
}

func decode(part string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(part) }
