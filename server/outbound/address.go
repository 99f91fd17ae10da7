package outbound

import (
	"fmt"
	"net/netip"
)

// metadata are addresses at which clouds answer their machines, beside those that are link-local.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // Amazon
	netip.MustParseAddr("fd20:ce::254"),    // Google
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("100.100.100.200"), // Alibaba
}

// carriers are ranges of IPv6 whose addresses carry one of IPv4, to which something on the way delivers, and at which byte.
var carriers = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible, of old; :: and ::1 are in it
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // SIIT
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12},  // NAT64 of one network, in the usual form
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	future      = netip.MustParsePrefix("240.0.0.0/4") // reserved; its last address is the broadcast
)

// Check tells whether a connection to an address may be made; the error wraps ErrAddress.
func (c Config) Check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if c.Tenant {
		for _, denied := range c.Denied {
			if denied.Contains(addr) {
				return fmt.Errorf("%w: %s is in a network of the operator", ErrAddress, addr)
			}
		}
	}
	kind := ""
	switch {
	case !addr.IsValid():
		kind = "invalid"
	case addr.IsUnspecified(), thisNetwork.Contains(addr):
		kind = "unspecified"
	case addr.IsLoopback():
		if c.AllowLoopback {
			return nil
		}
		kind = "loopback"
	case addr.IsLinkLocalUnicast():
		kind = "link-local"
	case addr.IsMulticast():
		kind = "multicast"
	case future.Contains(addr):
		kind = "reserved"
	}
	for _, m := range metadata {
		if addr == m {
			kind = "cloud metadata"
		}
	}
	if kind != "" {
		return fmt.Errorf("%w: %s is a %s address", ErrAddress, addr, kind)
	}
	for _, carrier := range carriers {
		if !carrier.prefix.Contains(addr) {
			continue
		}
		bytes := addr.As16()
		inner := netip.AddrFrom4([4]byte(bytes[carrier.at : carrier.at+4]))
		if err := c.Check(inner); err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	return nil
}
