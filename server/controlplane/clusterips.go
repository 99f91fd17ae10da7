package controlplane

import (
	"context"
	"time"

	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator/controller"
)

// repairAgain is when the repair of cluster IPs starts anew after its first look at all of them failed.
const repairAgain = time.Minute

// repairClusterIPs takes addresses that services have unrecorded, frees those that no service has, and tells of conflicts, as
// services and addresses come, change and go. It is upstream's loop, which every kube-apiserver runs.
func (c *ControlPlane) repairClusterIPs(ctx context.Context) {
	stop := make(chan struct{})
	defer context.AfterFunc(ctx, func() { close(stop) })()
	for ctx.Err() == nil {
		controller.NewRepairIPAddress(
			repairInterval, c.clients.kube, c.informers.Core().V1().Services(),
			c.informers.Networking().V1().ServiceCIDRs(), c.informers.Networking().V1().IPAddresses(),
		).RunUntil(func() {}, stop)
		select {
		case <-time.After(repairAgain):
		case <-ctx.Done():
		}
	}
}
