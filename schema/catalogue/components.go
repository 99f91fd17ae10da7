package catalogue

import (
	"context"
	"time"

	"k8s.io/kubernetes/pkg/probe"
	"k8s.io/kubernetes/pkg/registry/core/componentstatus"
)

// readiness is what a store says of itself.
type readiness interface{ Ready(context.Context) error }

// component answers for the database in ComponentStatuses, in the place that etcd has there.
type component struct{ store readiness }

// componentTimeout bounds one question to the database.
const componentTimeout = 5 * time.Second

func newComponentStatuses(store readiness) *componentstatus.REST {
	return componentstatus.NewStorage(func() map[string]componentstatus.Server {
		return map[string]componentstatus.Server{"etcd-0": component{store}}
	})
}

// DoServerCheck implements componentstatus.Server.
func (c component) DoServerCheck() (probe.Result, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), componentTimeout)
	defer cancel()
	if err := c.store.Ready(ctx); err != nil {
		return probe.Failure, "", err
	}
	return probe.Success, "ok", nil
}
