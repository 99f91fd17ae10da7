// Package network gives a node's pods addresses from its pod CIDR and the way to other nodes' pods, where all nodes are on one
// segment: a CNI configuration for containernetworking's plugins, routes, and a table of nftables that masquerades what leaves the
// pods' networks.
//
// It stands back for any other network: while a configuration of somebody else's is in the directory, there is none of
// ours, and no route and no table. Everything else stays when the agent ends, since pods run on.
package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/knftables"
)

// Config says whose network it is and where things are.
type Config struct {
	Node     string
	Client   kubernetes.Interface
	ConfDir  string   // where the runtime looks for a configuration; "": /etc/cni/net.d
	BinDirs  []string // where the runtime looks for plugins; nil: /opt/cni/bin
	StateDir string   // which addresses are taken; what a boot ends. "": /run/rowlock/addresses
	Recorder record.EventRecorder
	Log      *slog.Logger
}

// How often is looked for what nobody tells of: files that come and go, and routes that somebody took away.
const (
	lookEvery  = 10 * time.Second
	applyEvery = 2 * time.Minute
)

// Network is the pod network of one node.
type Network struct {
	Config
	tables func(knftables.Family) (knftables.Interface, error)
	nodes  corelisters.NodeLister
	wake   chan struct{}

	applied   string // what was last asked of the kernel
	appliedAt time.Time
	withdrawn bool
	said      map[string]string // what was last logged of a part, so that it is said once

	mu      sync.Mutex
	problem error
}

// New is a network that is not there yet.
func New(config Config) *Network {
	config.ConfDir = cmp.Or(config.ConfDir, "/etc/cni/net.d")
	config.StateDir = cmp.Or(config.StateDir, "/run/rowlock/addresses")
	if config.BinDirs == nil {
		config.BinDirs = []string{"/opt/cni/bin"}
	}
	return &Network{
		Config: config, wake: make(chan struct{}, 1), said: map[string]string{}, problem: errors.New("the pod network was not looked at yet"),
		tables: func(family knftables.Family) (knftables.Interface, error) { return knftables.New(family, table) },
	}
}

// Problem is why pods on this node cannot have a network, in words for the node's condition; nil if they can.
func (n *Network) Problem() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.problem
}

// Run keeps the network as it should be until ctx is done.
func (n *Network) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(n.Client, 0, informers.WithTransform(slim))
	nodes := factory.Core().V1().Nodes()
	registration, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { n.changed() },
		UpdateFunc: func(before, after any) {
			a, b := before.(*corev1.Node), after.(*corev1.Node)
			if !slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) || !slices.Equal(a.Status.Addresses, b.Status.Addresses) {
				n.changed()
			}
		},
		DeleteFunc: func(any) { n.changed() },
	})
	if err != nil {
		return err
	}
	n.nodes = nodes.Lister()
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		n.sync(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		case <-tick.C:
		}
	}
}

func (n *Network) changed() {
	select {
	case n.wake <- struct{}{}:
	default: // it is awake
	}
}

// slim leaves of a node what matters here.
func slim(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion},
		Spec:       corev1.NodeSpec{PodCIDRs: node.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Addresses: node.Status.Addresses},
	}, nil
}

// sync does once what there is to do.
func (n *Network) sync(ctx context.Context) {
	nodes, err := n.list()
	if err == nil {
		err = n.apply(ctx, nodes)
	}
	n.mu.Lock()
	n.problem = err
	n.mu.Unlock()
	if err != nil {
		n.say("network", slog.LevelWarn, "Pods have no network", err.Error())
	} else {
		n.say("network", slog.LevelInfo, "Pods have a network", "")
	}
}

// neighbour is a node as far as the network goes.
type neighbour struct {
	name      string
	pods      []netip.Prefix
	addresses []netip.Addr
}

// list are this node, which comes first, and the others in the order of their names.
func (n *Network) list() ([]neighbour, error) {
	self, err := n.nodes.Get(n.Node)
	if err != nil {
		return nil, err
	}
	all, err := n.nodes.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	list := []neighbour{seen(self)}
	for _, node := range all {
		if node.Name != n.Node {
			list = append(list, seen(node))
		}
	}
	return list, nil
}

// seen reads what it can; what cannot be read is not there.
func seen(node *corev1.Node) neighbour {
	s := neighbour{name: node.Name}
	for _, text := range node.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			s.pods = append(s.pods, p.Masked())
		}
	}
	for _, a := range node.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			s.addresses = append(s.addresses, ip.Unmap())
		}
	}
	return s
}

// apply makes what the nodes call for. The configuration comes last: once it is there, pods are started.
func (n *Network) apply(ctx context.Context, nodes []neighbour) error {
	other, err := n.foreign()
	if err != nil {
		return err
	}
	if other != "" {
		n.say("configuration", slog.LevelInfo, "Stood back for another network", other)
		return n.withdraw(ctx)
	}
	n.withdrawn = false
	self := nodes[0]
	if len(self.pods) == 0 {
		return fmt.Errorf("node %q has no pod CIDR yet", n.Node)
	}
	if err := n.checkPlugins(); err != nil {
		n.event(self, "MissingNetworkPlugins", err)
		return err
	}
	if key := fmt.Sprint(nodes); key != n.applied || time.Since(n.appliedAt) > applyEvery {
		if err := n.forwarding(self.pods); err != nil {
			return err
		}
		if err := n.routes(nodes); err != nil {
			return fmt.Errorf("routes to other nodes' pods: %w", err)
		}
		// Pods reach each other and their node without it.
		if err := n.masquerade(ctx, nodes); err != nil {
			n.event(self, "MasqueradeFailed", err)
			n.say("masquerade", slog.LevelWarn, "Pods do not reach what is beyond the nodes", err.Error())
		} else {
			n.say("masquerade", slog.LevelDebug, "Masqueraded what leaves the pods' networks", "")
			n.applied, n.appliedAt = key, time.Now()
		}
	}
	return n.writeConfiguration(self)
}

// withdraw takes away what is ours, once.
func (n *Network) withdraw(ctx context.Context) error {
	if n.withdrawn {
		return nil
	}
	n.applied = ""
	if err := errors.Join(n.removeConfiguration(), n.routes(nil)); err != nil {
		return err
	}
	// Where there is no nft, there is no table either.
	if err := n.unmasquerade(ctx); err != nil {
		n.say("masquerade", slog.LevelWarn, "Tables of nftables could not be removed", err.Error())
	}
	n.withdrawn = true
	return nil
}

// say logs what is new about a part.
func (n *Network) say(part string, level slog.Level, message, detail string) {
	if said, before := n.said[part]; before && said == message+detail || !before && level < slog.LevelInfo {
		return
	}
	n.said[part] = message + detail
	n.Log.Log(context.Background(), level, message, "detail", detail)
}

// event tells of a problem at the node, once.
func (n *Network) event(self neighbour, reason string, err error) {
	if n.said["event "+reason] == err.Error() {
		return
	}
	n.said["event "+reason] = err.Error()
	// Events about nodes are found by their name, as the kubelet's.
	n.Recorder.Event(&corev1.ObjectReference{Kind: "Node", Name: self.name, UID: types.UID(self.name)}, corev1.EventTypeWarning, reason, err.Error())
}
