package main

import (
	"github.com/spf13/pflag"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/outbound"
)

// outboundOptions say how servers that users name are reached: webhooks, aggregated API servers, nodes, pods and services.
type outboundOptions struct {
	AggregatorRouting bool
	AllowLoopback     bool
}

func (o *outboundOptions) addFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.AggregatorRouting, "enable-aggregator-routing", true, "connect to endpoints of the services of webhooks and aggregated API servers rather than to their cluster IPs")
	fs.BoolVar(&o.AllowLoopback, "allow-loopback-backends", false, "let webhooks, aggregated API servers, nodes, pods and services be on this machine's loopback addresses; for development, since whoever may register them then reaches what listens there")
}

func (o *outboundOptions) plane() controlplane.Outbound {
	return controlplane.Outbound{
		Config:     outbound.Config{AllowLoopback: o.AllowLoopback},
		ClusterIPs: !o.AggregatorRouting,
	}
}
