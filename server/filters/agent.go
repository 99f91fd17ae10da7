package filters

import (
	"net/http"

	upstream "k8s.io/apiserver/pkg/endpoints/filters"
)

// Agent wraps a handler for requests of parts of the process that act under a name of their own: who they are stands in
// the request's context (server/loopback puts it there), what they may is asked.
func Agent(handler http.Handler, cfg Config) http.Handler {
	handler = upstream.WithAuthorization(handler, cfg.Authorizer, cfg.Serializer)
	handler = withAudit(handler, cfg)
	handler = withTracing(handler, cfg)
	handler = withWarnings(handler)
	handler = withFacts(handler, cfg, false)
	return WithRecovery(handler, cfg.Serializer, cfg.Log)
}
