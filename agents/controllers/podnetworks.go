package controllers

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/pkg/controller/apis/config"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/crash"
	"github.com/rowlock-io/rowlock/agents/podnetwork"
)

// PodNetworks is the name of the loop that tells nodes of each other's pod networks. Upstream has none like it.
const PodNetworks = "pod-network-controller"

// podNetworks keeps for each Node the object that other nodes read.
//
// A node writes its own Node, and while that has no pod CIDR may give it any: NodeRestriction lets it. Others send to it what they have for
// its pods, so it is believed only where nothing speaks against it.
type podNetworks struct {
	client  kubernetes.Interface
	bounds  []bound // empty: anything
	queue   workqueue.TypedRateLimitingInterface[string]
	objects cache.Store          // of ConfigMaps; filled from when the first node has a network
	watches cache.Controller     // fills objects
	synced  cache.InformerSynced // of Nodes
	log     *slog.Logger

	first chan struct{} // closed when a node has a network
	once  sync.Once

	mu    sync.Mutex
	nodes map[string]networkOf // by the name of the object
}

// networkOf is a node's network, and since when there is the Node.
type networkOf struct {
	podnetwork.Network
	since time.Time
}

// older is an order in which a node that claims what another has already comes second.
func (n networkOf) older(o networkOf) bool {
	return cmp.Or(n.since.Compare(o.since), cmp.Compare(n.UID, o.UID)) < 0
}

// bound is a range that pods' addresses are taken from, and the length of the prefix that a node gets of it.
type bound struct {
	within netip.Prefix
	bits   int
}

func publishesPodNetworks(log *slog.Logger) func(context.Context, app.ControllerContext) (app.Controller, error) {
	return func(ctx context.Context, inside app.ControllerContext) (app.Controller, error) {
		client, err := inside.ClientBuilder.(Clients).root().Client(PodNetworks)
		if err != nil {
			return nil, err
		}
		p := newPodNetworks(ctx, client, bounds(inside.ComponentConfig), log)
		registration, err := inside.InformerFactory.Core().V1().Nodes().Informer().AddEventHandler(p.handler())
		if err != nil {
			return nil, err
		}
		p.synced = registration.HasSynced
		return p, nil
	}
}

func newPodNetworks(ctx context.Context, client kubernetes.Interface, bounds []bound, log *slog.Logger) *podNetworks {
	p := &podNetworks{
		client: client, bounds: bounds, log: log, first: make(chan struct{}), nodes: map[string]networkOf{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]()),
	}
	maps := client.CoreV1().ConfigMaps(podnetwork.Namespace)
	source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = podnetwork.Label
			return maps.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = podnetwork.Label
			return maps.Watch(ctx, o)
		},
	}, client)
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source, ObjectType: &corev1.ConfigMap{}, Transform: Trim,
		Handler: crash.Handler(ctx, cache.ResourceEventHandlerFuncs{
			AddFunc: p.object, UpdateFunc: func(_, after any) { p.object(after) }, DeleteFunc: p.object,
		}),
	})
	p.objects, p.watches = store, informer
	return p
}

// bounds are what flags say of nodes' networks, when they are handed out here.
func bounds(c config.KubeControllerManagerConfiguration) []bound {
	if !c.KubeCloudShared.AllocateNodeCIDRs {
		return nil
	}
	var all []bound
	for text := range strings.SplitSeq(c.KubeCloudShared.ClusterCIDR, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			continue // check has said so
		}
		sizes := c.NodeIPAMController
		bits := cmp.Or(sizes.NodeCIDRMaskSizeIPv4, sizes.NodeCIDRMaskSize, 24)
		if p.Addr().Is6() {
			bits = cmp.Or(sizes.NodeCIDRMaskSizeIPv6, sizes.NodeCIDRMaskSize, 64)
		}
		all = append(all, bound{p.Masked(), int(bits)})
	}
	return all
}

func (b bound) holds(p netip.Prefix) bool { return b.within.Contains(p.Addr()) && p.Bits() >= b.bits }

// Name implements app.Controller.
func (*podNetworks) Name() string { return PodNetworks }

// Run implements app.Controller. Until a node has a network it only waits.
func (p *podNetworks) Run(ctx context.Context) {
	defer p.queue.ShutDown()
	select {
	case <-p.first:
	case <-ctx.Done():
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		defer utilruntime.HandleCrashWithContext(ctx)
		p.watches.RunWithContext(ctx)
	})
	if !cache.WaitForCacheSync(ctx.Done(), p.synced, p.watches.HasSynced) {
		return
	}
	running.Go(func() {
		<-ctx.Done()
		p.queue.ShutDown()
	})
	for p.next(ctx) {
	}
}

func (p *podNetworks) next(ctx context.Context) bool {
	name, end := p.queue.Get()
	if end {
		return false
	}
	defer p.queue.Done(name)
	if err := p.sync(ctx, name); err != nil {
		if ctx.Err() == nil {
			p.log.Warn("A node's pod network could not be published", "object", name, "err", err)
		}
		p.queue.AddRateLimited(name)
		return true
	}
	p.queue.Forget(name)
	return true
}

func (p *podNetworks) object(obj any) {
	if name, err := cache.DeletionHandlingObjectToName(obj); err == nil {
		p.queue.Add(name.Name)
	}
}

func (p *podNetworks) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { p.saw(obj.(*corev1.Node)) },
		UpdateFunc: func(_, obj any) { p.saw(obj.(*corev1.Node)) },
		DeleteFunc: func(obj any) {
			if name, err := cache.DeletionHandlingObjectToName(obj); err == nil {
				p.set(podnetwork.Name(name.Name), networkOf{})
			}
		},
	}
}

func (p *podNetworks) saw(node *corev1.Node) {
	p.set(podnetwork.Name(node.Name), networkOf{podnetwork.Of(node), node.CreationTimestamp.Time})
}

// set notes a node's network, and has looked at what that changes: most changes of Nodes are none of it.
func (p *podNetworks) set(name string, network networkOf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, had := p.nodes[name]
	if !network.Complete() {
		delete(p.nodes, name)
		if !had {
			return
		}
	} else {
		if had && before.Equal(network.Network) {
			return
		}
		p.nodes[name] = network
		p.once.Do(func() { close(p.first) })
	}
	p.queue.Add(name)
	for other, n := range p.nodes { // one of them may have claimed what is free now
		if had && other != name && n.Overlaps(before.Network) || other != name && n.Overlaps(network.Network) {
			p.queue.Add(other)
		}
	}
}

// wanted is what is to be published under a name; nil: nothing.
func (p *podNetworks) wanted(name string) *corev1.ConfigMap {
	p.mu.Lock()
	defer p.mu.Unlock()
	network, ok := p.nodes[name]
	if !ok {
		return nil
	}
	if why := p.refused(network); why != "" {
		p.log.Warn("A node's pod network is not published", "node", network.Node, "podCIDRs", network.Pods, "why", why)
		return nil
	}
	return network.ConfigMap()
}

// refused says what speaks against a network.
func (p *podNetworks) refused(network networkOf) string {
	if p.outside(network) {
		return "it is no node's part of --cluster-cidr"
	}
	for _, other := range p.nodes {
		if other.UID != network.UID && other.older(network) && other.Overlaps(network.Network) && !p.outside(other) {
			return "node " + other.Node + " has it"
		}
	}
	return ""
}

func (p *podNetworks) outside(network networkOf) bool {
	return len(p.bounds) > 0 && slices.ContainsFunc(network.Pods, func(pods netip.Prefix) bool {
		return !slices.ContainsFunc(p.bounds, func(b bound) bool { return b.holds(pods) })
	})
}

// sync has an object as it should be.
func (p *podNetworks) sync(ctx context.Context, name string) error {
	client := p.client.CoreV1().ConfigMaps(podnetwork.Namespace)
	want := p.wanted(name)
	var have *corev1.ConfigMap
	if obj, ok, _ := p.objects.GetByKey(podnetwork.Namespace + "/" + name); ok {
		have = obj.(*corev1.ConfigMap)
	}
	switch {
	case want == nil && have == nil:
		return nil
	case want == nil:
		err := client.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(have.UID)}})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // the watch tells of it
		}
		return err
	case have == nil:
		_, err := client.Create(ctx, want, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		if have, err = client.Get(ctx, name, metav1.GetOptions{}); err != nil { // without the label, or older than what is known
			return err
		}
	}
	if right(have, want) {
		return nil
	}
	changed := have.DeepCopy()
	changed.Data, changed.BinaryData, changed.OwnerReferences = want.Data, nil, want.OwnerReferences
	if changed.Labels == nil {
		changed.Labels = map[string]string{}
	}
	maps.Copy(changed.Labels, want.Labels)
	_, err := client.Update(ctx, changed, metav1.UpdateOptions{})
	return err
}

func right(have, want *corev1.ConfigMap) bool {
	_, labelled := have.Labels[podnetwork.Label]
	return labelled && maps.Equal(have.Data, want.Data) && slices.Equal(have.OwnerReferences, want.OwnerReferences) && len(have.BinaryData) == 0
}
