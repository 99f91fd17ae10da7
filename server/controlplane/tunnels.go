package controlplane

import (
	"context"
	"net"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/tunnels"
)

// newTunnels keeps the connections of nodes that dial out. own is who the server is to nodes.
func newTunnels(c *ControlPlane, own *pki.Shown) *tunnels.Tunnels {
	cfg := tunnels.Config{
		Cluster: c.cfg.Name, Backend: c.backend, Replicas: c.cfg.Replicas, Self: c.externalAddress(), Authority: c.identity.ClusterCA,
		Shown: own.Certificate, Direct: c.backends.dialer.DialContext, Slices: c.backends.slices, PodsDirectly: c.cfg.Outbound.PodsDirectly,
		Pod: func(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
			return c.clients.kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
		},
		Log: c.cfg.Log,
	}
	if c.cfg.Metrics != nil {
		cfg.Metrics = c.cfg.Metrics.tunnels
	}
	return tunnels.New(cfg)
}

// dialService connects to an address of a Service of a webhook's, or of an aggregated API server's.
func (c *ControlPlane) dialService(ctx context.Context, namespace, service, network, address string) (net.Conn, error) {
	return c.tunnels.DialService(ctx, namespace, service, network, address)
}
