package health

import (
	"net/http"

	"k8s.io/apiserver/pkg/server/healthz"
)

// hooks are checks of what kube-apiserver starts after it has begun to listen, as far as there is something of the kind
// here, by its names and in its order: what watches a cluster asks for some of them. Each is answered by the part that
// does that work.
func (c *Checks) hooks() []healthz.HealthChecker {
	var checks []healthz.HealthChecker
	for _, part := range []struct {
		check func(*http.Request) error
		names []string
	}{
		{c.informers, []string{
			"poststarthook/start-apiserver-admission-initializer",
			"poststarthook/generic-apiserver-start-informers",
			"poststarthook/priority-and-fairness-config-consumer",
		}},
		{c.definitions, []string{
			"poststarthook/start-apiextensions-informers",
			"poststarthook/start-apiextensions-controllers",
			"poststarthook/crd-informer-synced",
		}},
		{c.bootstrap, []string{
			"poststarthook/start-system-namespaces-controller",
			"poststarthook/start-cluster-authentication-info-controller",
		}},
		{c.cache, []string{"poststarthook/storage-readiness"}},
		{c.bootstrap, []string{
			"poststarthook/start-legacy-token-tracking-controller",
			"poststarthook/start-service-ip-repair-controllers",
			"poststarthook/rbac/bootstrap-roles",
			"poststarthook/scheduling/bootstrap-system-priority-classes",
			"poststarthook/priority-and-fairness-config-producer",
			"poststarthook/bootstrap-controller",
			"poststarthook/start-kubernetes-service-cidr-controller",
		}},
		{c.registration, []string{
			"poststarthook/start-kube-aggregator-informers",
			"poststarthook/apiservice-status-local-available-controller",
			"poststarthook/apiservice-status-remote-available-controller",
			"poststarthook/apiservice-registration-controller",
			"poststarthook/apiservice-discovery-controller",
		}},
		{c.bootstrap, []string{ // which makes the APIServices of what is served here
			"poststarthook/kube-apiserver-autoregistration",
			"autoregister-completion",
		}},
		{c.registration, []string{
			"poststarthook/apiservice-openapi-controller",
			"poststarthook/apiservice-openapiv3-controller",
		}},
	} {
		for _, name := range part.names {
			checks = append(checks, healthz.NamedCheck(name, part.check))
		}
	}
	return checks
}
