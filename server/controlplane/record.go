package controlplane

import (
	"k8s.io/client-go/rest"
	upstream "k8s.io/component-base/tracing"

	"github.com/rowlock-io/rowlock/server/audit"
	"github.com/rowlock-io/rowlock/server/filters"
	"github.com/rowlock-io/rowlock/server/tracing"
)

// Record is who takes note of requests. All clusters of a process share it.
type Record struct {
	Audit  *audit.Recorder  // nil: nobody
	Tracer tracing.Provider // nil: nobody
}

func (r Record) into(cfg filters.Config, cluster string) filters.Config {
	cfg.AuditSink, cfg.AuditPolicy = r.Audit.Of(cluster)
	cfg.Tracer, cfg.Cluster = r.Tracer, cluster
	return cfg
}

// client has the server's own requests belong to the trace of the request that they are made for.
func (r Record) client(cfg *rest.Config) {
	if r.Tracer != nil {
		cfg.Wrap(upstream.WrapperFor(r.Tracer))
	}
}
