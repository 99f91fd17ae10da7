package agents

import (
	"testing"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// TestLegacyTokens has tokens taken away that nobody used: looked for once a day, and so at each start.
func TestLegacyTokens(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		server := cluster.StartServer(t, "--controllers=legacy-serviceaccount-token-cleaner-controller,serviceaccount-token-controller", "--legacy-service-account-token-clean-up-period=1s")
		again := func() *flow {
			server.Stop(t)
			server.Start(t)
			f := newFlow(t, cluster, server)
			f.ns = "default"
			return f
		}
		f := newFlow(t, cluster, server)
		f.in("kube-system").await("configmaps/kube-apiserver-legacy-service-account-token-tracking", "has(o.data.since)")
		f.in("kube-system").patch("configmaps/kube-apiserver-legacy-service-account-token-tracking", "data: {since: '2020-01-01'}")
		f.ns = "default"
		f.create("{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot}, secrets: [{name: made}]}")
		for _, name := range []string{"made", "asked-for"} { // only the first looks as if it had come by itself
			f.create("{apiVersion: v1, kind: Secret, metadata: {name: " + name + ", annotations: {kubernetes.io/service-account.name: robot}}, type: kubernetes.io/service-account-token}")
			f.await("secrets/"+name, "has(o.data.token)")
		}
		const invalid = "kubernetes.io/legacy-token-invalid-since"
		f = again()
		f.await("secrets/made", "'"+invalid+"' in o.metadata.labels")
		f.patch("secrets/made", "metadata: {labels: {"+invalid+": '2020-01-01'}}")
		f = again()
		f.gone("secrets/made")
		f.await("secrets/asked-for", "!has(o.metadata.labels)")
		quiet(f)
	}, harness.SQLite)
}
