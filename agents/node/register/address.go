package register

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	netutils "k8s.io/utils/net"
)

var thisMachine = machine{root: "/", network: &network{
	lookup: func(ctx context.Context, host string) ([]net.IP, error) {
		return net.DefaultResolver.LookupIP(ctx, "ip", host)
	},
	own:     net.InterfaceAddrs,
	byRoute: utilnet.ResolveBindAddress,
}}

// check finds what is wrong with what the operator says.
func (c Config) check() error {
	if len(c.Addresses) > 2 {
		return fmt.Errorf("--node-ip must be one address, or one of each family: %v", c.Addresses)
	}
	var ips []net.IP
	for _, text := range c.Addresses {
		ip := netutils.ParseIPSloppy(text)
		if ip == nil {
			return fmt.Errorf("--node-ip: %q is not an IP address", text)
		}
		if len(c.Addresses) > 1 && ip.IsUnspecified() {
			return fmt.Errorf("--node-ip: dual-stack node IPs may not be '0.0.0.0' or '::': %v", c.Addresses)
		}
		ips = append(ips, ip)
	}
	if len(ips) == 2 && (ips[0].To4() == nil) == (ips[1].To4() == nil) {
		return fmt.Errorf("--node-ip must be one address, or one of each family: %v", c.Addresses)
	}
	return nil
}

// addressesOf finds out what the node is reached by: by what the operator says, by the host name if it is an address or leads to one of the
// machine's own, or by the interface of the default route.
func (n *Node) addressesOf(ctx context.Context) ([]corev1.NodeAddress, error) {
	var ips []net.IP
	var family net.IP
	for _, text := range n.cfg.Addresses {
		ip := netutils.ParseIPSloppy(text)
		if ip.IsUnspecified() {
			family = ip
			continue
		}
		if err := n.belongs(ip); err != nil {
			return nil, fmt.Errorf("failed to validate nodeIP: %w", err)
		}
		ips = append(ips, ip)
	}
	if len(ips) == 0 {
		ip, err := n.guess(ctx, family)
		if err != nil {
			return nil, fmt.Errorf("can't get ip address of node %s. error: %w", n.cfg.Name, err)
		}
		ips = []net.IP{ip}
	}
	var all []corev1.NodeAddress
	for _, ip := range ips {
		all = append(all, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	return append(all, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.cfg.Hostname}), nil
}

// lookupTimeout bounds the wait for a name server: the node's status waits with it.
const lookupTimeout = 3 * time.Second

func (n *Node) guess(ctx context.Context, family net.IP) (net.IP, error) {
	if ip := netutils.ParseIPSloppy(n.cfg.Hostname); ip != nil {
		return ip, nil
	}
	v4 := family == nil || family.To4() != nil
	asking, cancel := context.WithTimeout(ctx, lookupTimeout)
	found, _ := n.cfg.machine.network.lookup(asking, n.cfg.Name) // that there is no such name is usual
	cancel()
	found = slices.DeleteFunc(found, func(ip net.IP) bool { return n.belongs(ip) != nil })
	if at := slices.IndexFunc(found, func(ip net.IP) bool { return (ip.To4() != nil) == v4 }); at >= 0 {
		return found[at], nil
	}
	if len(found) > 0 {
		return found[0], nil
	}
	if family == nil {
		family = net.IPv4zero
	}
	return n.cfg.machine.network.byRoute(family)
}

// belongs tells whether an address is one of this machine by which others reach it. The words are the kubelet's.
func (n *Node) belongs(ip net.IP) error {
	switch {
	case ip.IsLoopback():
		return errors.New("nodeIP can't be loopback address")
	case ip.IsMulticast():
		return errors.New("nodeIP can't be a multicast address")
	case ip.IsLinkLocalUnicast():
		return errors.New("nodeIP can't be a link-local unicast address")
	case ip.IsUnspecified():
		return errors.New("nodeIP can't be an all zeros address")
	}
	all, err := n.cfg.machine.network.own()
	if err != nil {
		return err
	}
	for _, a := range all {
		if own, _, err := net.ParseCIDR(a.String()); err == nil && own.Equal(ip) {
			return nil
		}
	}
	return fmt.Errorf("node IP: %q not found in the host's network interfaces", ip)
}
