package controlplane

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	listers "k8s.io/client-go/listers/core/v1"

	"github.com/rowlock-io/rowlock/storage"
)

// repairInterval is that of the repair loops in kube-apiserver.
const repairInterval = 3 * time.Minute

// repairNodePorts frees, every few minutes, node ports that no service uses, and takes those that one uses unrecorded.
func (c *ControlPlane) repairNodePorts(ctx context.Context, services listers.ServiceLister) error {
	tick := time.NewTicker(repairInterval)
	defer tick.Stop()
	var suspects map[string]storage.Revision
	for {
		used := map[int]bool{}
		all, err := services.List(labels.Everything())
		if err == nil {
			for _, s := range all {
				for _, p := range s.Spec.Ports {
					if p.NodePort != 0 {
						used[int(p.NodePort)] = true
					}
				}
				if s.Spec.HealthCheckNodePort != 0 {
					used[int(s.Spec.HealthCheckNodePort)] = true
				}
			}
			suspects, err = c.catalogue.NodePorts().Repair(ctx, used, suspects)
		}
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("Repair of node ports failed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
