package server_test

import (
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/server/servertest"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	for wire.Send(t, shared.URL, servertest.Request{Method: http.MethodGet, Path: "/readyz"}).Status != http.StatusOK {
		runtime.Gosched() // the parts are still getting there; the test's own limit ends what never does
	}
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
			hooks + "[+]shutdown ok\nreadyz check passed\n"},
		{"/livez?verbose", 200, "[+]ping ok\n[+]log ok\n[+]etcd ok\n" + hooks + "livez check passed\n"},
		{"/livez?verbose&exclude=etcd&exclude=log", 200, "[+]ping ok\n[+]log excluded: ok\n[+]etcd excluded: ok\n" +
			hooks + "livez check passed\n"},
		{"/livez?verbose&exclude=none", 200, "[+]ping ok\n[+]log ok\n[+]etcd ok\n" + hooks +
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

// hooks are the checks of the server's parts, in kube-apiserver's order.
var hooks = "[+]" + strings.Join([]string{
	"poststarthook/start-apiserver-admission-initializer",
	"poststarthook/generic-apiserver-start-informers",
	"poststarthook/priority-and-fairness-config-consumer",
	"poststarthook/start-apiextensions-informers",
	"poststarthook/start-apiextensions-controllers",
	"poststarthook/crd-informer-synced",
	"poststarthook/start-system-namespaces-controller",
	"poststarthook/start-cluster-authentication-info-controller",
	"poststarthook/storage-readiness",
	"poststarthook/start-legacy-token-tracking-controller",
	"poststarthook/start-service-ip-repair-controllers",
	"poststarthook/rbac/bootstrap-roles",
	"poststarthook/scheduling/bootstrap-system-priority-classes",
	"poststarthook/priority-and-fairness-config-producer",
	"poststarthook/bootstrap-controller",
	"poststarthook/start-kubernetes-service-cidr-controller",
	"poststarthook/start-kube-aggregator-informers",
	"poststarthook/apiservice-status-local-available-controller",
	"poststarthook/apiservice-status-remote-available-controller",
	"poststarthook/apiservice-registration-controller",
	"poststarthook/apiservice-discovery-controller",
	"poststarthook/kube-apiserver-autoregistration",
	"autoregister-completion",
	"poststarthook/apiservice-openapi-controller",
	"poststarthook/apiservice-openapiv3-controller",
}, " ok\n[+]") + " ok\n"
