package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// allowWardle lets alice read flunders, and nothing else.
func allowWardle(t *testing.T, s *servertest.Server) {
	t.Helper()
	rbac := s.Client(t, servertest.Default).RbacV1()
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "wardle"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{wardle}, Resources: []string{"flunders", "flunders/connect"}, Verbs: []string{"get", "list"}}},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "wardle"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "wardle"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"}},
	}
	_, err := rbac.ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{})
	if err == nil {
		_, err = rbac.ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, "alice may", func() bool {
		return wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: wardlePath + "/flunders", Token: servertest.AliceToken}).Status == http.StatusOK
	})
}

func upgradeRequest(path, token string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: some\r\nAuthorization: Bearer " + token + "\r\n" +
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\nSec-Websocket-Version: 13\r\n\r\n"
}

// TestUpgradeThatFailsLeavesNoConnectionToTheBackend is CVE-2018-1002105: after an upgrade that the backend refused, the
// client's connection led to the backend, over which it could send requests that nobody authorized, as anybody.
func TestUpgradeThatFailsLeavesNoConnectionToTheBackend(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: withLoopback})
	sample := newSampleServer(t, s.Identity(servertest.Default).FrontProxyCA.Pool())
	register(t, s, sample)
	allowWardle(t, s)
	smuggled := "GET " + wardlePath + "/flunders/stolen HTTP/1.1\r\nHost: some\r\nX-Remote-User: admin\r\nX-Remote-Group: system:masters\r\n\r\n"

	for name, answer := range map[string]struct {
		path string
		h    http.HandlerFunc
		want int
	}{
		"not authorized here":   {"/secrets/connect", func(w http.ResponseWriter, _ *http.Request) {}, http.StatusForbidden},
		"refused by it":         {"/flunders/a/connect", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, http.StatusForbidden},
		"not upgraded by it":    {"/flunders/a/connect", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "no upgrade") }, http.StatusServiceUnavailable},
		"redirected by it":      {"/flunders/a/connect", func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/elsewhere", http.StatusFound) }, http.StatusServiceUnavailable},
		"its own words it said": {"/flunders/a/connect", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", 500) }, http.StatusInternalServerError},
	} {
		sample.answerWith(answer.h)
		conn, r := dialServer(t, s)
		// Both requests in one write, so that the second is there when the first is answered.
		if _, err := io.WriteString(conn, upgradeRequest(wardlePath+answer.path, servertest.AliceToken)+smuggled); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(name, err)
		}
		if resp.StatusCode != answer.want {
			t.Errorf("%s: status %d, want %d", name, resp.StatusCode, answer.want)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		// What follows is read as a request to this server, if at all: it names nobody here and is forbidden.
		if next, err := http.ReadResponse(r, nil); err == nil && next.StatusCode != http.StatusForbidden {
			t.Errorf("%s: the second request: %d", name, next.StatusCode)
		}
		for _, one := range sample.got() {
			if strings.Contains(one.URI, "stolen") {
				t.Errorf("%s: the second request reached the backend: %+v", name, one)
			}
		}
	}
}

// TestUpgradeGetsThrough shows that the refusals above are not of all upgrades, and that one ends with its server.
func TestUpgradeGetsThrough(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: withLoopback})
	sample := newSampleServer(t, s.Identity(servertest.Default).FrontProxyCA.Pool())
	register(t, s, sample)
	allowWardle(t, s)
	sample.answerWith(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString("echo " + line)
		_ = rw.Flush()
	})
	conn, r := dialServer(t, s)
	if _, err := io.WriteString(conn, upgradeRequest(wardlePath+"/flunders/a/connect", servertest.AliceToken)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	got := sample.got()
	if len(got) != 1 || got[0].Header.Get("X-Remote-User") != "alice" || got[0].Header.Get("Authorization") != "" {
		t.Errorf("the backend saw %+v", got)
	}
}

// TestRedirectsOfBackendsAreNotFollowed: neither with the front-proxy certificate by the server, nor by clients with the
// credentials that they have for it.
func TestRedirectsOfBackendsAreNotFollowed(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: withLoopback})
	sample := newSampleServer(t, s.Identity(servertest.Default).FrontProxyCA.Pool())
	register(t, s, sample)
	var followed atomic.Int32
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer elsewhere.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{elsewhere.URL + "/x", "/api/v1/secrets", "//" + elsewhere.Listener.Addr().String()} {
			sample.answerWith(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(code)
			})
			resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: wardlePath + "/flunders", Token: servertest.AdminToken})
			if resp.Status != http.StatusBadGateway || resp.Header.Get("Location") != "" {
				t.Errorf("%d to %s: %+v", code, to, resp)
			}
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// TestClientsCannotSayWhoTheyAreToBackends: no header of a client reaches an aggregated server that it could take for the
// word of the front proxy.
func TestClientsCannotSayWhoTheyAreToBackends(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: withLoopback})
	sample := newSampleServer(t, s.Identity(servertest.Default).FrontProxyCA.Pool())
	register(t, s, sample)
	allowWardle(t, s)
	smuggle := []string{
		"X-Remote-User: admin", "x-remote-user: admin", "X-REMOTE-USER: admin", "X_Remote_User: admin", "X-Remote_User: admin", "x_remote_user: admin",
		"X-Remote-Group: system:masters", "X_REMOTE_GROUP: system:masters",
		"X-Remote-Uid: 0", "X_Remote_Uid: 0", "X-Remote-UID: 0",
		"X-Remote-Extra-Scopes: all", "X-Remote-Extra-Sco%70es: all", "X_Remote_Extra_Scopes: all", "X-Remote-Extra-: all",
		"X-Remote-Extra-Acme.com%2Fproject: all",
		"Connection: X-Remote-User, X-Remote-Group, X-Remote-Uid", "Keep-Alive: X-Remote-User", "Proxy-Connection: X-Remote-User",
	}
	want := map[string][]string{"X-Remote-User": {"alice"}, "X-Remote-Uid": {"alice"}, "X-Remote-Group": {"devs", "system:authenticated"}}
	for _, upgrade := range []bool{false, true} {
		lines := append([]string{}, smuggle...)
		path := wardlePath + "/flunders"
		if upgrade {
			path += "/a/connect"
			lines = append(lines, "Upgrade: websocket", "Connection: Upgrade, X-Remote-User, X_Remote_User")
		}
		sample.answerWith(nil)
		conn, r := dialServer(t, s)
		text := "GET " + path + " HTTP/1.1\r\nHost: some\r\nAuthorization: Bearer " + servertest.AliceToken + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if resp, err := http.ReadResponse(r, nil); err != nil {
			t.Fatal(resp, err)
		}
		got := sample.got()
		if len(got) != 1 {
			t.Fatalf("upgrade %v: the backend saw %+v", upgrade, got)
		}
		identity := map[string][]string{}
		for name, values := range got[0].Header {
			plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
			if strings.HasPrefix(plain, "x-remote-") || strings.HasPrefix(plain, "impersonate-") || plain == "authorization" {
				identity[name] = values
			}
			if plain == "connection" && strings.Contains(strings.ToLower(strings.Join(values, ",")), "remote") {
				t.Errorf("upgrade %v: %s: %v", upgrade, name, values)
			}
		}
		if diff := cmp.Diff(want, identity); diff != "" {
			t.Errorf("upgrade %v: %s", upgrade, diff)
		}
	}
	// And here nobody believes them without the front proxy's certificate.
	resp := wire.Send(t, s.URL, servertest.Request{
		Method: http.MethodGet, Path: "/api/v1/secrets",
		Header: http.Header{"X-Remote-User": {"admin"}, "X-Remote-Group": {"system:masters"}, "X_Remote_User": {"admin"}},
	})
	if resp.Status != http.StatusForbidden || !strings.Contains(resp.Body, "system:anonymous") {
		t.Errorf("here: %+v", resp)
	}
	cfg := s.WithCertificate(t, servertest.Default, servertest.Default, pki.FrontProxy())
	cfg.WrapTransport = func(next http.RoundTripper) http.RoundTripper { return asAdmin{next} }
	if _, err := servertest.NewClient(t, cfg).CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a certificate of the cluster's own authority passed for the front proxy's")
	}
}

// asAdmin says that a request is an administrator's.
type asAdmin struct{ next http.RoundTripper }

func (a asAdmin) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("X-Remote-User", "admin")
	req.Header.Set("X-Remote-Group", "system:masters")
	return a.next.RoundTrip(req)
}

// TestAggregatedServersAreNotOnThisMachine: neither by a name that means it, nor by a Service that does.
func TestAggregatedServersAreNotOnThisMachine(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	var reached atomic.Int32
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			conn.Close()
		}
	}()
	client, kube := newAggregatorClient(t, s), s.Client(t, servertest.Default)
	port := int32(listener.Addr().(*net.TCPAddr).Port)
	for i, host := range []string{"localhost", "127.0.0.1", "127.1", "0.0.0.0", "169.254.169.254", "0x7f000001"} {
		name := fmt.Sprintf("wardle%d", i)
		if _, err := kube.CoreV1().Services("default").Create(t.Context(), externalService(name, host), metav1.CreateOptions{}); err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		service := wardleService(name, port)
		service.Spec.Group = name + ".example.com"
		service.Name = "v1." + service.Spec.Group
		if _, err := client.ApiregistrationV1().APIServices().Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c := awaitAvailable(t, client, service.Name, apiregistration.ConditionFalse, "FailedDiscoveryCheck")
		if !strings.Contains(c.Message, "address not allowed") && !strings.Contains(c.Message, "no such host") && !strings.Contains(c.Message, "lookup "+host) {
			t.Errorf("%s: %s", host, c.Message)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// TestPathsOfAggregatedServersDoNotLeaveTheirGroup: what was authorized is what the server behind is asked.
func TestPathsOfAggregatedServersDoNotLeaveTheirGroup(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{Plane: func(cfg *controlplane.Config) { withLoopback(cfg) }, Clusters: []string{"other"}})
	sample := newSampleServer(t, s.Identity(servertest.Default).FrontProxyCA.Pool())
	register(t, s, sample)
	allowWardle(t, s)
	for _, root := range []string{"", "/clusters/" + servertest.Default} {
		for _, path := range []string{
			wardlePath + "/flunders/../../../../api/v1/secrets",
			wardlePath + "/flunders/%2e%2e/%2e%2e/secrets",
			wardlePath + "/flunders/%2E%2E%2f%2e%2e%2fsecrets",
			wardlePath + "/flunders/..%2f..%2fsecrets",
			wardlePath + "/flunders/a%2f..%2f..%2fsecrets",
			wardlePath + "/namespaces/../secrets",
			wardlePath + "/namespaces/./flunders",
			wardlePath + "/flunders/..%5c..%5csecrets",
			wardlePath + "/..",
			wardlePath + "/../../apps/v1/deployments",
			wardlePath + "%2f..%2fsecrets",
		} {
			for _, token := range []string{servertest.AliceToken, servertest.AdminToken} {
				sample.answerWith(nil)
				resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: root + path, Token: token})
				if got := sample.got(); resp.Status < 400 || len(got) > 0 {
					t.Errorf("%s%s: %d, the server behind saw %+v", root, path, resp.Status, got)
				}
			}
		}
	}
	// An escaped slash is the slash that was authorized.
	for path, want := range map[string]string{
		wardlePath + "/namespaces/x%2fflunders": wardlePath + "/namespaces/x/flunders",
		wardlePath + "/flunders/a%20b":          wardlePath + "/flunders/a%20b",
		wardlePath + "/flunders/a%252fb":        wardlePath + "/flunders/a%252fb",
	} {
		sample.answerWith(nil)
		wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AliceToken})
		if got := sample.got(); len(got) != 1 || got[0].URI != want {
			t.Errorf("%s: the server behind saw %+v, want %s", path, got, want)
		}
	}
	// A cluster's name ends where its path begins: no path leads from one cluster into another.
	for _, path := range []string{
		"/clusters/other/../default" + wardlePath + "/flunders", "/clusters/other%2f..%2fdefault" + wardlePath + "/flunders",
		"/clusters/other/%2e%2e/default" + wardlePath + "/flunders", "/clusters/other/clusters/default" + wardlePath + "/flunders",
		"/clusters/../clusters/default" + wardlePath + "/flunders", "//clusters/default" + wardlePath + "/flunders",
		"/clusters/other" + wardlePath + "/flunders", "/clusters//default" + wardlePath + "/flunders",
	} {
		sample.answerWith(nil)
		resp := wire.Send(t, s.URL, servertest.Request{Method: http.MethodGet, Path: path, Token: servertest.AdminToken})
		if got := sample.got(); resp.Status < 400 || len(got) > 0 {
			t.Errorf("%s: %d, the server behind saw %+v", path, resp.Status, got)
		}
	}
}

// TestProxiedWatchesEndWithTheServer: a watch of an aggregated server does not hold up a stop.
func TestProxiedWatchesEndWithTheServer(t *testing.T) {
	t.Parallel()
	s, err := servertest.Open(t.Context(), t.TempDir(), servertest.Config{Plane: withLoopback})
	if err != nil {
		t.Fatal(err)
	}
	sample := newSampleServer(t, s.Identity(servertest.Default).FrontProxyCA.Pool())
	register(t, s, sample)
	begun := make(chan struct{})
	sample.answerWith(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"type": "BOOKMARK"})
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-req.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := wire.Do(ctx, s.URL, servertest.Request{Method: http.MethodGet, Path: wardlePath + "/flunders?watch=1", Token: servertest.AdminToken})
		ended <- err
	}()
	<-begun
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	t.Log("the watch ended:", <-ended) // cut off, or at its end
	if ctx.Err() != nil {
		t.Error("the watch went on until its client gave up")
	}
}
