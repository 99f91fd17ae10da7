package controlplane

import (
	"github.com/go-chi/chi/v5"

	"github.com/rowlock-io/rowlock/server/fairness"
	"github.com/rowlock-io/rowlock/server/filters"
)

// Flow is how many requests a cluster serves at a time. The zero value is kube-apiserver's defaults.
type Flow = fairness.Limits

func (c *ControlPlane) newFairness() {
	c.fairness = fairness.New(fairness.Config{
		Limits: c.cfg.Flow, Client: c.clients.kube, Informers: c.informers, Cache: c.backend.Cache,
		LongRunning: filters.LongRunning, Timeout: c.cfg.RequestTimeout, Process: c.cfg.Operator, Marks: c.cfg.FlowMarks,
	})
}

// installDebug shows who waits for a seat.
func (c *ControlPlane) installDebug(r chi.Router) {
	if prefix, handler := c.fairness.Debug(); handler != nil {
		r.Handle(prefix+"*", handler)
	}
}
