package network

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rowlock-io/rowlock/agents/podnetwork"
)

// protocol marks routes as ours. The kernel keeps it and does nothing with it; nobody is known to use this number.
const protocol = netlink.RouteProtocol(0x52)

// routes has the pods of other nodes reached by way of those, and takes away what we made for nodes that are gone. A node that is
// behind a gateway is left out: the gateway would not know the way to its pods.
func (n *Network) routes(nodes []podnetwork.Network) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	want := map[netip.Prefix]*netlink.Route{}
	for i, node := range nodes {
		if i == 0 {
			continue // this one: the bridge has its route
		}
		for _, pods := range node.Pods {
			if r := n.route(h, node, pods); r != nil {
				want[pods] = r
			}
		}
	}
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		have, err := h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			errs = append(errs, err)
		}
		for _, r := range have {
			to, ok := prefix(r.Dst)
			if !ok {
				continue
			}
			wanted := want[to]
			switch {
			case r.Protocol != protocol && wanted != nil: // somebody else's, who has reasons
				delete(want, to)
			case r.Protocol == protocol && wanted == nil:
				if err := h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
					errs = append(errs, fmt.Errorf("remove the one to %s: %w", to, err))
				}
			case r.Protocol == protocol && wanted.Gw.Equal(r.Gw) && wanted.LinkIndex == r.LinkIndex:
				delete(want, to)
			}
		}
	}
	for to, r := range want {
		if err := h.RouteReplace(r); err != nil {
			errs = append(errs, fmt.Errorf("%s by way of %s: %w", to, r.Gw, err))
		}
	}
	return errors.Join(errs...)
}

// route is the one to a node's pods; nil if there is none to be made.
func (n *Network) route(h *netlink.Handle, node podnetwork.Network, pods netip.Prefix) *netlink.Route {
	i := slices.IndexFunc(node.Addresses, func(a netip.Addr) bool { return a.Is4() == pods.Addr().Is4() })
	if i < 0 {
		n.say("route "+node.Node, slog.LevelWarn, "Another node's pods are not reached: it has no address of their family", node.Node+" "+pods.String())
		return nil
	}
	via := net.IP(node.Addresses[i].AsSlice())
	found, err := h.RouteGet(via)
	if err != nil || len(found) == 0 || len(found[0].Gw) > 0 || found[0].Type == unix.RTN_LOCAL {
		n.say("route "+node.Node, slog.LevelWarn, "Another node's pods are not reached: it is not on a segment with this one", node.Node+" "+via.String())
		return nil
	}
	n.say("route "+node.Node, slog.LevelDebug, "Another node's pods are reached", node.Node+" "+via.String())
	return &netlink.Route{
		Dst: &net.IPNet{IP: pods.Addr().AsSlice(), Mask: net.CIDRMask(pods.Bits(), pods.Addr().BitLen())},
		Gw:  via, LinkIndex: found[0].LinkIndex, Protocol: protocol, Table: unix.RT_TABLE_MAIN,
	}
}

func prefix(to *net.IPNet) (netip.Prefix, bool) {
	if to == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(to.IP)
	bits, _ := to.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), ok
}

// mtu is that of the device that has one of the node's addresses; 0: unknown, and up to the plugin.
func mtu(addresses []netip.Addr) int {
	devices, err := net.Interfaces()
	if err != nil {
		return 0
	}
	for _, d := range devices {
		held, err := d.Addrs()
		if err != nil {
			continue
		}
		for _, a := range held {
			if p, ok := a.(*net.IPNet); ok {
				if addr, ok := netip.AddrFromSlice(p.IP); ok && slices.Contains(addresses, addr.Unmap()) {
					return d.MTU
				}
			}
		}
	}
	return 0
}

// forwarding has the kernel pass on what comes from pods and goes to them.
func (n *Network) forwarding(pods []netip.Prefix) error {
	settings := map[string]bool{} // whether the network needs it
	for _, p := range pods {
		if p.Addr().Is4() {
			settings["net/ipv4/ip_forward"] = true
			settings["net/bridge/bridge-nf-call-iptables"] = false
		} else {
			settings["net/ipv6/conf/all/forwarding"] = true
			settings["net/bridge/bridge-nf-call-ip6tables"] = false
		}
	}
	for name, needed := range settings {
		path := "/proc/sys/" + name
		if old, err := os.ReadFile(path); err == nil && string(old) == "1\n" {
			continue
		}
		err := os.WriteFile(path, []byte("1"), 0o644)
		switch {
		case err == nil:
			n.Log.Info("Set a kernel parameter", "name", name, "value", 1)
		case needed:
			return fmt.Errorf("pods' traffic is not forwarded: %w", err)
		case errors.Is(err, fs.ErrNotExist):
			// Without the module br_netfilter answers from a pod of the same node to a service's client bypass the translation.
			n.say(name, slog.LevelInfo, "The kernel module br_netfilter is not loaded", name)
		default:
			n.say(name, slog.LevelWarn, "A kernel parameter cannot be set", err.Error())
		}
	}
	return nil
}
