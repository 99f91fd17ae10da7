package controlplane

import (
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/tunnels"
)

// newTunnels keeps the connections of nodes that dial out. own is who the server is to nodes.
func newTunnels(c *ControlPlane, own *pki.Shown) *tunnels.Tunnels {
	return tunnels.New(tunnels.Config{
		Cluster: c.cfg.Name, Backend: c.backend, Replicas: c.cfg.Replicas, Self: c.externalAddress(), Authority: c.identity.ClusterCA,
		Shown: own.Certificate, Direct: c.backends.dialer.DialContext, Log: c.cfg.Log,
	})
}
