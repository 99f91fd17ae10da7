package filters

import (
	"net/http"

	upstream "k8s.io/apiserver/pkg/endpoints/filters"

	"github.com/rowlock-io/rowlock/server/tracing"
)

// withTracing begins the span of a request whose user is known: only members of system:masters and system:monitoring may
// say what trace it belongs to, and so whether it is sampled.
func withTracing(handler http.Handler, cfg Config) http.Handler {
	if cfg.Tracer == nil {
		return handler
	}
	return upstream.WithTracing(tracing.OfCluster(handler, cfg.Cluster), cfg.Tracer)
}
