package network

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"sigs.k8s.io/knftables"
)

// loopback are addresses by which a node speaks to itself.
const loopback = "127.0.0.0/8"

// throughLoopback has ports that pods have of their node be reached on the node at its loopback addresses: where it is the plugin portmap
// that gives pods such ports, it sees to that, but CRI-O gives them itself, and does not.
func throughLoopback(tx *knftables.Transaction, postrouting string) {
	tx.Add(&knftables.Rule{Chain: postrouting, Rule: knftables.Concat("oifname", Bridge, "ip saddr", loopback, "masquerade")})
	// No pod is to reach what listens on the node for the node alone, which the kernel would let pass now.
	const chain = "input"
	tx.Add(&knftables.Chain{
		Name: chain, Type: knftables.PtrTo(knftables.FilterType), Hook: knftables.PtrTo(knftables.InputHook),
		Priority: knftables.PtrTo(knftables.FilterPriority),
	})
	tx.Flush(&knftables.Chain{Name: chain})
	tx.Add(&knftables.Rule{Chain: chain, Rule: knftables.Concat("iifname", Bridge, "ip daddr", loopback, "ct state != { established, related } drop")})
}

// routeLoopback has the kernel let answers pass that come from pods to loopback addresses. The bridge is there with the first pod.
func (n *Network) routeLoopback() {
	const name = "net/ipv4/conf/" + Bridge + "/route_localnet"
	path := "/proc/sys/" + name
	old, err := os.ReadFile(path)
	if err == nil && string(old) != "1\n" {
		err = os.WriteFile(path, []byte("1"), 0o644)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.say(name, slog.LevelWarn, "A kernel parameter cannot be set", err.Error())
	}
}
