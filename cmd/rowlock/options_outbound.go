package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/outbound"
)

// outboundOptions say how servers that users name are reached: webhooks, aggregated API servers, nodes, pods and services.
type outboundOptions struct {
	AggregatorRouting bool
	AllowLoopback     bool
	Deny              []string
	PodsByTunnel      bool
}

func (o *outboundOptions) addFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.AggregatorRouting, "enable-aggregator-routing", true, "connect to endpoints of the services of webhooks and aggregated API servers rather than to their cluster IPs")
	fs.BoolVar(&o.AllowLoopback, "allow-loopback-backends", false, "let webhooks, aggregated API servers, nodes, pods and services be on this machine's loopback addresses; for development, since whoever may register them then reaches what listens there")
	fs.BoolVar(&o.PodsByTunnel, "pods-by-tunnel", true, "connect to pods, for pods/proxy and services/proxy and for the services of webhooks and aggregated API servers, over the tunnels of their nodes where these have one. false: always at their addresses, which takes a server in the pods' network")
	fs.StringSliceVar(&o.Deny, "deny-backends", nil, "networks (10.0.0.0/8) and addresses in which webhooks, aggregated API servers, nodes, pods and services of hosted clusters may not be")
}

func (o *outboundOptions) validate() error {
	if _, err := outbound.ParseNetworks(o.Deny); err != nil {
		return fmt.Errorf("--deny-backends: %w", err)
	}
	return nil
}

func (o *outboundOptions) plane() controlplane.Outbound {
	denied, _ := outbound.ParseNetworks(o.Deny) // validated before
	return controlplane.Outbound{
		Config:     outbound.Config{AllowLoopback: o.AllowLoopback, Denied: denied},
		ClusterIPs: !o.AggregatorRouting, PodsDirectly: !o.PodsByTunnel,
	}
}
