package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ParseNetworks reads networks in CIDR notation, and single addresses, for Config.Denied.
func ParseNetworks(all []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, s := range all {
		if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			networks = append(networks, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(s)
		if err != nil || network.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is neither a network of IPv4 or IPv6 nor an address", s)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// withoutResolver takes out of a failed dial who was asked for a name and from which address: those are the operator's
// network. Whether the name exists remains, as whoever may name a host finds that out anyhow.
func withoutResolver(network string, err error) error {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return err
	}
	told := *dns
	told.Server = ""
	switch {
	case told.IsNotFound:
		told.Err = "no such host"
	case told.IsTimeout:
		told.Err = "i/o timeout"
	case errors.Is(told.UnwrapErr, context.Canceled):
		told.Err = "operation was canceled"
	default:
		told.Err = "server misbehaving"
	}
	return &net.OpError{Op: "dial", Net: network, Err: &told}
}
