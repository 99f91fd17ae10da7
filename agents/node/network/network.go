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
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/knftables"

	"github.com/rowlock-io/rowlock/agents/podnetwork"
)

// Config says whose network it is and where things are.
type Config struct {
	Node     string
	Self     func() *corev1.Node // this node as it was last seen; nil: not yet. Changed is to be called when it is another.
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
	others cache.Store     // the objects of package podnetwork
	known  <-chan struct{} // closed when others holds all
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
	done := make(chan struct{})
	watcher := n.watcher()
	go func() { defer close(done); watcher.RunWithContext(ctx) }()
	defer func() { <-done }()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for known := n.known; ; {
		n.sync(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-known:
			known = nil
		case <-n.wake:
		case <-tick.C:
		}
	}
}

// watcher follows what the control plane says of nodes' networks.
func (n *Network) watcher() cache.Controller {
	objects := n.Client.CoreV1().ConfigMaps(podnetwork.Namespace)
	source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = podnetwork.Label
			return objects.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = podnetwork.Label
			return objects.Watch(ctx, o)
		},
	}, n.Client)
	store, watcher := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source, ObjectType: &corev1.ConfigMap{},
		Transform: func(obj any) (any, error) {
			if cm, ok := obj.(*corev1.ConfigMap); ok {
				cm.ManagedFields = nil
			}
			return obj, nil
		},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { n.Changed() }, UpdateFunc: func(any, any) { n.Changed() }, DeleteFunc: func(any) { n.Changed() },
		},
	})
	n.others, n.known = store, watcher.HasSyncedChecker().Done()
	return watcher
}

// Changed has the network looked at soon.
func (n *Network) Changed() {
	select {
	case n.wake <- struct{}{}:
	default: // it is awake
	}
}

// sync does once what there is to do.
func (n *Network) sync(ctx context.Context) {
	nodes, err := n.list()
	err = n.apply(ctx, nodes, err)
	n.mu.Lock()
	n.problem = err
	n.mu.Unlock()
	if err != nil {
		n.say("network", slog.LevelWarn, "Pods have no network", err.Error())
	} else {
		n.say("network", slog.LevelInfo, "Pods have a network", "")
	}
}

// list are this node, which comes first, and the others in the order of their names.
func (n *Network) list() ([]podnetwork.Network, error) {
	self := n.Self()
	if self == nil {
		return nil, fmt.Errorf("node %q is not known yet", n.Node)
	}
	select {
	case <-n.known:
	default:
		return nil, errors.New("other nodes' pod networks are not known yet")
	}
	list := []podnetwork.Network{podnetwork.Of(self)}
	for _, obj := range n.others.List() {
		other, err := podnetwork.Read(obj.(*corev1.ConfigMap))
		if err != nil {
			n.say("object "+obj.(*corev1.ConfigMap).Name, slog.LevelWarn, "A node's pod network was left out", err.Error())
		} else if other.Node != n.Node {
			list = append(list, other)
		}
	}
	slices.SortFunc(list[1:], func(a, b podnetwork.Network) int { return cmp.Compare(a.Node, b.Node) })
	return list, nil
}

// apply makes what the nodes call for, unless unknown says why they are not known. The configuration comes last: once it is there, pods
// are started.
func (n *Network) apply(ctx context.Context, nodes []podnetwork.Network, unknown error) error {
	other, err := n.foreign()
	if err != nil {
		return err
	}
	if other != "" {
		n.say("configuration", slog.LevelInfo, "Stood back for another network", other)
		return n.withdraw(ctx)
	}
	n.withdrawn = false
	if unknown != nil {
		return unknown
	}
	self := nodes[0]
	if len(self.Pods) == 0 {
		return fmt.Errorf("node %q has no pod CIDR yet", n.Node)
	}
	if err := n.checkPlugins(); err != nil {
		n.event(self, "MissingNetworkPlugins", err)
		return err
	}
	if key := fmt.Sprint(nodes); key != n.applied || time.Since(n.appliedAt) > applyEvery {
		if err := n.forwarding(self.Pods); err != nil {
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
	if n.applied != "" {
		n.routeLoopback()
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
func (n *Network) event(self podnetwork.Network, reason string, err error) {
	if n.said["event "+reason] == err.Error() {
		return
	}
	n.said["event "+reason] = err.Error()
	// Events about nodes are found by their name, as the kubelet's.
	n.Recorder.Event(&corev1.ObjectReference{Kind: "Node", Name: self.Node, UID: types.UID(self.Node)}, corev1.EventTypeWarning, reason, err.Error())
}
