package controlplane

import (
	"github.com/rowlock-io/rowlock/server/audit"
	"github.com/rowlock-io/rowlock/server/filters"
)

// Record is who takes note of requests. All clusters of a process share it.
type Record struct {
	Audit *audit.Recorder // nil: nobody
}

func (r Record) into(cfg filters.Config, cluster string) filters.Config {
	cfg.AuditSink, cfg.AuditPolicy = r.Audit.Of(cluster)
	return cfg
}
