package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/server/servertest"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		path string
		want int
		body string
	}{
		{"/healthz", 200, "ok"},
		{"/livez", 200, "ok"},
		{"/readyz", 200, "ok"},
		{"/readyz/etcd", 200, "ok"},
		{"/livez/ping", 200, "ok"},
		{"/healthz/none", 404, "404 page not found\n"},
		{"/readyz?verbose", 200, "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]cache ok\n[+]informer-sync ok\n" +
			"[+]poststarthook/bootstrap-controller ok\n[+]poststarthook/apiservice-registration-controller ok\n[+]autoregister-completion ok\n[+]shutdown ok\nreadyz check passed\n"},
		{"/livez?verbose", 200, "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]poststarthook/bootstrap-controller ok\n[+]poststarthook/apiservice-registration-controller ok\n[+]autoregister-completion ok\nlivez check passed\n"},
		{"/livez?verbose&exclude=etcd&exclude=log", 200, "[+]ping ok\n[+]log excluded: ok\n[+]etcd excluded: ok\n" +
			"[+]poststarthook/bootstrap-controller ok\n[+]poststarthook/apiservice-registration-controller ok\n[+]autoregister-completion ok\nlivez check passed\n"},
		{"/livez?verbose&exclude=none", 200, "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]poststarthook/bootstrap-controller ok\n[+]poststarthook/apiservice-registration-controller ok\n[+]autoregister-completion ok\n" +
			"warn: some health checks cannot be excluded: no matches for \"none\"\nlivez check passed\n"},
	} {
		// Probes carry no credentials.
		resp := wire.Send(t, shared.URL, servertest.Request{Method: http.MethodGet, Path: tt.path})
		if resp.Status == http.StatusForbidden && strings.Count(strings.SplitN(tt.path, "?", 2)[0], "/") > 1 {
			resp = wire.Send(t, shared.URL, servertest.Request{Method: http.MethodGet, Path: tt.path, Token: servertest.AdminToken})
		}
		if resp.Status != tt.want || resp.Body != tt.body {
			t.Errorf("GET %s: %d %q, want %d %q", tt.path, resp.Status, resp.Body, tt.want, tt.body)
		}
	}
}
