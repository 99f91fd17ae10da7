// Package podnetwork is how nodes learn of each other's pod networks: for each node a small ConfigMap beside its Lease, which
// agents/controllers writes and agents/node/network reads. A node may read no other Node, and each of those changes with every
// heartbeat, while these change only with the network.
package podnetwork

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// Namespace is where the objects are.
	Namespace = corev1.NamespaceNodeLease
	// Label selects them. It has no value.
	Label = "rowlock.io/pod-network"
)

// What the objects hold; lists are separated by commas.
const (
	keyNode      = "node"
	keyPods      = "podCIDRs"
	keyAddresses = "addresses"
)

// Network is how a node's pods are reached.
type Network struct {
	Node      string
	UID       types.UID // of the Node
	Pods      []netip.Prefix
	Addresses []netip.Addr // of the node, one of a family
}

// Name is what the object for a node is called. A node's name may be as long as the object's.
func Name(node string) string {
	if name := "pod-network." + node; len(name) <= validation.DNS1123SubdomainMaxLength {
		return name
	}
	sum := sha256.Sum256([]byte(node))
	return "pod-network-sha256." + hex.EncodeToString(sum[:])
}

// Of reads a Node. What cannot be read is not there.
func Of(node *corev1.Node) Network {
	n := Network{Node: node.Name, UID: node.UID}
	for _, text := range node.Spec.PodCIDRs {
		n.addPods(text)
	}
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			n.addAddress(a.Address)
		}
	}
	return n
}

// Read reads an object.
func Read(cm *corev1.ConfigMap) (Network, error) {
	n := Network{Node: cm.Data[keyNode]}
	if Name(n.Node) != cm.Name {
		return Network{}, fmt.Errorf("ConfigMap %s is not that of node %q", cm.Name, n.Node)
	}
	for _, owner := range cm.OwnerReferences {
		n.UID = owner.UID
	}
	for text := range strings.SplitSeq(cm.Data[keyPods], ",") {
		n.addPods(text)
	}
	for text := range strings.SplitSeq(cm.Data[keyAddresses], ",") {
		n.addAddress(text)
	}
	return n, nil
}

func (n *Network) addPods(text string) {
	if p, err := netip.ParsePrefix(text); err == nil {
		n.Pods = append(n.Pods, p.Masked())
	}
}

func (n *Network) addAddress(text string) {
	ip, err := netip.ParseAddr(text)
	ip = ip.Unmap()
	if err == nil && ip.Zone() == "" && !slices.ContainsFunc(n.Addresses, func(a netip.Addr) bool { return a.Is4() == ip.Is4() }) {
		n.Addresses = append(n.Addresses, ip)
	}
}

// Complete tells whether there is anything to tell other nodes.
func (n Network) Complete() bool { return len(n.Pods) > 0 && len(n.Addresses) > 0 }

// Equal compares all of it.
func (n Network) Equal(o Network) bool {
	return n.Node == o.Node && n.UID == o.UID && slices.Equal(n.Pods, o.Pods) && slices.Equal(n.Addresses, o.Addresses)
}

// Overlaps tells whether an address could be a pod's of both.
func (n Network) Overlaps(o Network) bool {
	return slices.ContainsFunc(n.Pods, func(p netip.Prefix) bool { return slices.ContainsFunc(o.Pods, p.Overlaps) })
}

// ConfigMap is the object for a node, which goes with it.
func (n Network) ConfigMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: Name(n.Node), Labels: map[string]string{Label: ""},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Node, UID: n.UID}},
		},
		Data: map[string]string{keyNode: n.Node, keyPods: join(n.Pods), keyAddresses: join(n.Addresses)},
	}
}

func join[T fmt.Stringer](list []T) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = v.String()
	}
	return strings.Join(texts, ",")
}
