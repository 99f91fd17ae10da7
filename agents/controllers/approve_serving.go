package controllers

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	certificatesapi "k8s.io/kubernetes/pkg/apis/certificates"
)

// What nodes are called as users.
const (
	nodeUserPrefix = "system:node:"
	nodeGroup      = "system:nodes"
)

func nodeName(r *x509.CertificateRequest) string {
	return strings.TrimPrefix(r.Subject.CommonName, nodeUserPrefix)
}

// serving approves a serving certificate for who is a node, with the node's name and addresses that it has to itself.
//
// The authority that signs it is the one that clients know the servers by. So a certificate for a server's name or address, or for that of
// another node, is what somebody who has taken one node would want, and a node writes its addresses itself. What it writes is therefore
// believed only where nothing speaks against it.
func (a *approver) serving(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, parsed *x509.CertificateRequest) error {
	if err := certificatesapi.ValidateKubeletServingCSR(parsed, usageSet(csr.Spec.Usages)); err != nil {
		return nil //nolint:nilerr // the signer says so in the request's status, should somebody approve it
	}
	if csr.Spec.Username != parsed.Subject.CommonName || !slices.Contains(csr.Spec.Groups, nodeGroup) {
		return nil
	}
	if why := a.unjustified(parsed); why != "" {
		a.log.Debug("A serving certificate is not approved", "request", csr.Name, "node", nodeName(parsed), "why", why)
		return later("csr %q of node %s is not approved: %s; it may be approved with kubectl certificate approve", csr.Name, nodeName(parsed), why)
	}
	return a.approve(ctx, csr, nil, "Auto approving kubelet serving certificate for the node's own name and addresses.")
}

// unjustified says what speaks against a request, or nothing.
func (a *approver) unjustified(parsed *x509.CertificateRequest) string {
	node, err := a.nodes.Get(nodeName(parsed))
	if err != nil {
		return "there is no such node"
	}
	for _, name := range parsed.DNSNames {
		if why := a.wrongName(node, name); why != "" {
			return fmt.Sprintf("the name %q %s", name, why)
		}
	}
	others, err := a.nodes.List(labels.Everything())
	if err != nil {
		return err.Error()
	}
	for _, ip := range parsed.IPAddresses {
		if why := a.wrongAddress(node, others, ip); why != "" {
			return fmt.Sprintf("the address %s %s", ip, why)
		}
	}
	return ""
}

// wrongName: of names a node has its own, which no other can have.
func (a *approver) wrongName(node *corev1.Node, name string) string {
	lower := strings.ToLower(strings.TrimSuffix(name, "."))
	switch {
	case lower != node.Name:
		return "is not the node's"
	case len(validation.IsDNS1123Subdomain(lower)) > 0 || net.ParseIP(lower) != nil:
		return "is not a host name"
	case lower == "kubernetes", strings.HasPrefix(lower, "kubernetes."), lower == "localhost", strings.HasSuffix(lower, ".localhost"),
		strings.HasSuffix(lower, ".svc"), strings.Contains(lower, ".svc."), strings.HasSuffix(lower, ".cluster.local"), strings.HasSuffix(lower, ".rowlock.internal"):
		return "belongs to the cluster"
	case slices.ContainsFunc(a.own.Names, func(own string) bool { return strings.EqualFold(own, lower) }):
		return "is a server's"
	}
	return ""
}

// wrongAddress: of addresses a node has those in its status that nobody else has.
func (a *approver) wrongAddress(node *corev1.Node, all []*corev1.Node, wanted net.IP) string {
	ip, ok := netip.AddrFromSlice(wanted)
	if !ok {
		return "is none"
	}
	ip = ip.Unmap()
	if !ip.IsGlobalUnicast() { // loopback, link-local, multicast, unspecified
		return "is none that others reach a node by"
	}
	if !has(node, ip) {
		return "is not in the node's status"
	}
	ranges, err := a.ranges.List(labels.Everything())
	if err != nil {
		return err.Error()
	}
	for _, r := range ranges {
		if addressIn(ip, r.Spec.CIDRs) {
			return "is in the range of services"
		}
	}
	for _, other := range all {
		if other.Name == node.Name {
			continue
		}
		if has(other, ip) {
			return "is that of node " + other.Name
		}
		if addressIn(ip, other.Spec.PodCIDRs) {
			return "is in the range of pods of node " + other.Name
		}
	}
	if a.own.Node != nil && a.own.Node(node.Name) {
		return ""
	}
	if a.ofServer(ip) {
		return "is a server's"
	}
	return ""
}

// ofServer tells whether servers are reached by an address.
func (a *approver) ofServer(ip netip.Addr) bool {
	if slices.ContainsFunc(a.own.Names, func(name string) bool { own, err := netip.ParseAddr(name); return err == nil && own.Unmap() == ip }) {
		return true
	}
	found, err := a.servers.List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: "kubernetes"}))
	if err != nil {
		return true
	}
	for _, s := range found {
		for _, e := range s.Endpoints {
			if slices.Contains(e.Addresses, ip.String()) {
				return true
			}
		}
	}
	return false
}

// has tells whether a node says that an address is its own.
func has(node *corev1.Node, ip netip.Addr) bool {
	return slices.ContainsFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			return false
		}
		own, err := netip.ParseAddr(a.Address)
		return err == nil && own.Unmap() == ip
	})
}
