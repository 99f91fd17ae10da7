package serve_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
)

// Every path asks who it is, and nobody gets in without being somebody.
func TestNobodyUnknownGetsIn(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.run(newPod("web"))
	stranger := newAuthority(t)
	cert, key := stranger.issue(t, x509.ExtKeyUsageClientAuth, "admin", "system:masters")
	serving, servingKey := n.ca.issue(t, x509.ExtKeyUsageServerAuth, "admin", "system:masters")
	ca := rest.TLSClientConfig{CAData: n.ca.pem()}
	withCert := func(cert, key []byte) rest.TLSClientConfig {
		return rest.TLSClientConfig{CAData: ca.CAData, CertData: cert, KeyData: key}
	}
	for name, config := range map[string]*rest.Config{
		"nobody":               {TLSClientConfig: ca},
		"a wrong token":        {TLSClientConfig: ca, BearerToken: "wrong"},
		"another's authority":  {TLSClientConfig: withCert(cert, key)},
		"a server certificate": {TLSClientConfig: withCert(serving, servingKey)},
	} {
		for _, path := range []string{
			"/", "/pods", "/runningpods/", "/healthz", "/healthz/ping", "/configz", "/stats/summary", "/metrics", "/metrics/resource", "/metrics/probes",
			"/metrics/cadvisor", "/logs/", "/containerLogs/default/web/c", "/exec/default/web/c", "/attach/default/web/c", "/portForward/default/web",
			"/debug/pprof/", "/nothing",
		} {
			if code, body := n.do(config, http.MethodGet, path); code != http.StatusUnauthorized || body != "Unauthorized" {
				t.Errorf("%s at %s: %d %s", name, path, code, body)
			}
		}
	}
	if len(n.kube.Actions()) > 1 { // the one token
		t.Errorf("the API server was asked: %v", n.kube.Actions())
	}
	token := &rest.Config{TLSClientConfig: ca, BearerToken: "admin"}
	for range 3 {
		if code, body := n.do(token, http.MethodGet, "/healthz"); code != http.StatusOK || body != "ok" {
			t.Errorf("a good token: %d %s", code, body)
		}
	}
	asked := map[string]int{}
	for _, a := range n.kube.Actions() {
		asked[a.GetResource().Resource]++
	}
	if asked["tokenreviews"] != 2 || asked["subjectaccessreviews"] != 1 {
		t.Errorf("asked of a token three times: %v", asked)
	}
}

// What it takes is what the kubelet takes for each path (KEP-2862).
func TestRights(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.run(newPod("web"))
	for _, tc := range []struct {
		method, path string
		want         string // the rights, in the words of the refusal
	}{
		{path: "/pods", want: "verb=get, resource=nodes, subresource(s)=[pods proxy]"},
		{path: "/runningpods/", want: "verb=get, resource=nodes, subresource(s)=[pods proxy]"},
		{path: "/healthz", want: "verb=get, resource=nodes, subresource(s)=[healthz proxy]"},
		{path: "/healthz/log", want: "verb=get, resource=nodes, subresource(s)=[healthz proxy]"},
		{path: "/configz", want: "verb=get, resource=nodes, subresource(s)=[configz proxy]"},
		{path: "/stats/summary", want: "verb=get, resource=nodes, subresource(s)=[stats]"},
		{method: http.MethodPost, path: "/stats/summary", want: "verb=create, resource=nodes, subresource(s)=[stats]"},
		{path: "/metrics", want: "verb=get, resource=nodes, subresource(s)=[metrics]"},
		{path: "/metrics/resource", want: "verb=get, resource=nodes, subresource(s)=[metrics]"},
		{path: "/logs/syslog", want: "verb=get, resource=nodes, subresource(s)=[log]"},
		{method: http.MethodPost, path: "/checkpoint/default/web/c", want: "verb=create, resource=nodes, subresource(s)=[checkpoint]"},
		{path: "/containerLogs/default/web/c", want: "verb=get, resource=nodes, subresource(s)=[proxy]"},
		{method: http.MethodPost, path: "/exec/default/web/c", want: "verb=create, resource=nodes, subresource(s)=[proxy]"},
		{path: "/exec/default/web/c", want: "verb=get, resource=nodes, subresource(s)=[proxy]"},
		{method: http.MethodPost, path: "/attach/default/web/c", want: "verb=create, resource=nodes, subresource(s)=[proxy]"},
		{method: http.MethodPost, path: "/portForward/default/web", want: "verb=create, resource=nodes, subresource(s)=[proxy]"},
		{method: http.MethodPost, path: "/run/default/web/c", want: "verb=create, resource=nodes, subresource(s)=[proxy]"},
		{path: "/debug/pprof/heap", want: "verb=get, resource=nodes, subresource(s)=[proxy]"},
		{path: "/podsecurity", want: "verb=get, resource=nodes, subresource(s)=[proxy]"},
		{method: http.MethodPut, path: "/podsecurity", want: "verb=update, resource=nodes, subresource(s)=[proxy]"},
		{method: http.MethodDelete, path: "/metricsserver", want: "verb=delete, resource=nodes, subresource(s)=[proxy]"},
	} {
		if tc.method == "" {
			tc.method = http.MethodGet
		}
		want := "Forbidden (user=nobody, " + tc.want + ")"
		if code, body := n.do(n.as("nobody"), tc.method, tc.path); code != http.StatusForbidden || body != want {
			t.Errorf("%s %s: %d %q, want %q", tc.method, tc.path, code, body, want)
		}
	}
	metrics := n.as("metrics")
	for path, want := range map[string]int{
		"/metrics": http.StatusOK, "/metrics/resource": http.StatusOK, "/pods": http.StatusOK, "/stats/summary": http.StatusForbidden,
		"/containerLogs/default/web/c": http.StatusForbidden, "/configz": http.StatusForbidden,
		// What is asked for is what is authorized, however it is written.
		"/metrics/../containerLogs/default/web/c": http.StatusMovedPermanently, "/metrics%2f..%2fcontainerLogs/default/web/c": http.StatusNotFound,
	} {
		config := rest.CopyConfig(metrics)
		config.WrapTransport = func(next http.RoundTripper) http.RoundTripper { return raw{next, path} }
		if code, body := n.do(config, http.MethodGet, "/"); code != want && (want != http.StatusMovedPermanently || code != http.StatusTemporaryRedirect) {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

// raw asks for a path as it is written, and follows nothing.
type raw struct {
	next http.RoundTripper
	path string
}

func (r raw) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Opaque = "//" + req.URL.Host + r.path
	resp, err := r.next.RoundTrip(req)
	if err == nil {
		resp.Header.Del("Location")
	}
	return resp, err
}

// While the API server is away those are let in whom it knew, and others are told that it cannot be asked.
func TestAnswersAreKept(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	if code, body := n.get("/healthz"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	n.kube.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("away") })
	if code, body := n.get("/healthz"); code != http.StatusOK {
		t.Errorf("known: %d %s", code, body)
	}
	code, body := n.do(n.as("new"), http.MethodGet, "/stats/summary")
	if want := "Authorization error (user=new, verb=get, resource=nodes, subresource=stats)"; code != http.StatusInternalServerError || body != want {
		t.Errorf("unknown: %d %s, want %s", code, body, want)
	}
	code, _ = n.do(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: n.ca.pem()}, BearerToken: "new"}, http.MethodGet, "/healthz")
	if code != http.StatusUnauthorized {
		t.Errorf("a token that nobody knows: %d", code)
	}
	for _, a := range n.kube.Actions() {
		if create, ok := a.(clienttesting.CreateAction); ok {
			if review, ok := create.GetObject().(*authorizationv1.SubjectAccessReview); ok && review.Spec.ResourceAttributes.Name != "one" {
				t.Errorf("asked about node %q", review.Spec.ResourceAttributes.Name)
			}
		}
	}
}

// A client that is slow, or says too much, is not waited for, nor listened to.
func TestLargeHeadersAreRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(n.url, "https://"), &tls.Config{RootCAs: n.ca.pool(), MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	go func() {
		_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: node\r\nX: "+strings.Repeat("x", 2<<20)+"\r\n\r\n") // it is cut off
	}()
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 431 ") {
		t.Errorf("%.100s", answer)
	}
}
