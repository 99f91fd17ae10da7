package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"sigs.k8s.io/knftables"

	"github.com/rowlock-io/rowlock/agents/podnetwork"
)

// table is the name of our table of nftables, in the families of both protocols.
const table = "rowlock-pods"

var families = []knftables.Family{knftables.IPv4Family, knftables.IPv6Family}

func familyOf(p netip.Prefix) knftables.Family {
	if p.Addr().Is4() {
		return knftables.IPv4Family
	}
	return knftables.IPv6Family
}

// masquerade has what leaves the pods' networks come from the node: nobody beyond knows the way to a pod.
func (n *Network) masquerade(ctx context.Context, nodes []podnetwork.Network) error {
	for _, family := range families {
		var own, all []netip.Prefix
		for i, node := range nodes {
			for _, p := range node.Pods {
				if familyOf(p) == family {
					all = append(all, p)
					if i == 0 {
						own = append(own, p)
					}
				}
			}
		}
		if len(own) > 0 {
			if err := n.setTable(ctx, family, own, all); err != nil {
				return err
			}
		} else if err := n.dropTable(ctx, family); err != nil {
			n.say("table "+string(family), slog.LevelDebug, "A table of nftables could not be removed", err.Error()) // nor be there, mostly
		}
	}
	return nil
}

func (n *Network) setTable(ctx context.Context, family knftables.Family, own, all []netip.Prefix) error {
	nft, err := n.tables(family)
	if err != nil {
		return err
	}
	ip, kind, multicast := "ip", "ipv4_addr", "224.0.0.0/4"
	if family == knftables.IPv6Family {
		ip, kind, multicast = "ip6", "ipv6_addr", "ff00::/8"
	}
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{Comment: knftables.PtrTo("pod network of rowlock's agent")})
	// Networks of nodes that come and go may be said twice for a moment.
	tx.Add(&knftables.Set{
		Name: "pods", Type: kind, Flags: []knftables.SetFlag{knftables.IntervalFlag}, AutoMerge: knftables.PtrTo(true),
		Comment: knftables.PtrTo("all nodes' pods"),
	})
	tx.Flush(&knftables.Set{Name: "pods"})
	for _, p := range all {
		tx.Add(&knftables.Element{Set: "pods", Key: []string{p.String()}})
	}
	chain := "postrouting"
	tx.Add(&knftables.Chain{
		Name: chain, Type: knftables.PtrTo(knftables.NATType), Hook: knftables.PtrTo(knftables.PostroutingHook),
		Priority: knftables.PtrTo(knftables.SNATPriority),
	})
	tx.Flush(&knftables.Chain{Name: chain})
	tx.Add(&knftables.Rule{Chain: chain, Rule: knftables.Concat(ip, "daddr", multicast, "return")})
	for _, p := range own {
		tx.Add(&knftables.Rule{Chain: chain, Rule: knftables.Concat(ip, "saddr", p.String(), ip, "daddr", "!=", "@pods", "masquerade fully-random")})
	}
	if family == knftables.IPv4Family {
		throughLoopback(tx, chain)
	}
	if err := nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("nftables, table %s %s: %w", family, table, err)
	}
	return nil
}

// dropTable takes the table away, if there is one.
func (n *Network) dropTable(ctx context.Context, family knftables.Family) error {
	nft, err := n.tables(family)
	if err != nil {
		return err
	}
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{}) // else to delete what is not there fails
	tx.Delete(&knftables.Table{})
	return nft.Run(ctx, tx)
}

func (n *Network) unmasquerade(ctx context.Context) error {
	var errs []error
	for _, family := range families {
		errs = append(errs, n.dropTable(ctx, family))
	}
	return errors.Join(errs...)
}
