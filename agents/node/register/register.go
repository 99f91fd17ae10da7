// Package register tells the cluster of a node: it makes the Node object, keeps its status true, as a kubelet does, and renews the
// node's Lease.
//
// The status is computed every ten seconds, and when somebody says that something changed; it is written when it is another one, and
// every five minutes when it is not. Of the machine it reads /proc, /sys and /etc itself.
package register

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-helpers/apimachinery/lease"
	nodeutil "k8s.io/component-helpers/node/util"
	"k8s.io/utils/clock"
)

// Kubelet's defaults.
const (
	LeaseSeconds  = 40
	leaseInterval = 10 * time.Second
	SyncInterval  = 10 * time.Second
	PostInterval  = 5 * time.Minute
	// MaxPods is how many pods a node takes unless it is told otherwise.
	MaxPods = 110
)

// While a node starts it is looked at more often: it is to be ready as soon as it can be.
const (
	startInterval = 200 * time.Millisecond
	startTime     = 30 * time.Second
)

// Config is what is said of the node, and who knows the rest.
type Config struct {
	// Name is that of the Node, Hostname that of the machine; empty: Name.
	Name, Hostname string
	// Addresses are what the operator says: none, or one of each family. The unspecified address asks for a family.
	Addresses  []string
	Labels     map[string]string
	Taints     []corev1.Taint // of a node that is new to the cluster
	ProviderID string
	MaxPods    int // 0: MaxPods
	// PodsPerCore bounds them by the number of CPUs; 0 does not.
	PodsPerCore int
	// Reserved is what pods may not have, for whatever reason.
	Reserved corev1.ResourceList
	// Kept is what of a capacity has to stay free, or pods are evicted; nil: the kubelet's default.
	Kept func(capacity corev1.ResourceList) corev1.ResourceList
	// Port is where the node's own API is; 0: there is none.
	Port int32
	// Version is that of Kubernetes that the agent stands for.
	Version string
	// DeclaredFeatures are those of the agent (KEP-5328), sorted.
	DeclaredFeatures []string
	// DataDir is in the file system that pods' ephemeral storage comes from.
	DataDir string

	// Runtime is what is known of the container runtime. It may be asked often and must be quick.
	Runtime func() Runtime
	// Images lists what the runtime has. It is asked at most every 30 seconds.
	Images func(context.Context) ([]Image, error)
	// Ready tells why the node is not, if it is not, in the words of kubelets: "container runtime is down", "PLEG is not healthy: …".
	Ready func() []error
	// Pressure tells of what there is too little; nil: there is enough of all.
	Pressure func() Pressure
	// VolumesInUse are attached volumes; nil: there are none.
	VolumesInUse func() []corev1.UniqueVolumeName
	// Changed is called when Get returns another Node than before; nil: nothing is. It must be quick.
	Changed func()

	Client kubernetes.Interface
	// Watching is a client whose requests may last; nil: Client.
	Watching kubernetes.Interface
	Events   record.EventRecorder
	Clock    clock.Clock // nil: the machine's
	Log      *slog.Logger

	machine machine // where facts are read from; tests have their own
}

// Runtime is what a node's status says of its container runtime.
type Runtime struct {
	Name, Version string
	Handlers      []corev1.NodeRuntimeHandler
	Features      *corev1.NodeFeatures
}

// Pressure tells of what a node has too little.
type Pressure struct{ Memory, Disk, PID bool }

// Image is one that the runtime has.
type Image struct {
	Digests, Tags []string
	Size          int64
}

// Node is the node as the cluster sees it. It is safe for concurrent use.
type Node struct {
	cfg     Config
	facts   facts
	ref     *corev1.ObjectReference
	changed chan struct{}
	images  images

	// Of the one who posts.
	posted      time.Time // when the status was last written
	spread      time.Duration
	schedulable bool
	rebooted    bool

	mu        sync.Mutex
	node      *corev1.Node // as the server last had it; nil: not known
	addresses []corev1.NodeAddress
}

// New reads what does not change while the machine runs.
func New(cfg Config) (*Node, error) {
	if cfg.Hostname == "" {
		cfg.Hostname = cfg.Name
	}
	if cfg.MaxPods == 0 {
		cfg.MaxPods = MaxPods
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Kept == nil {
		cfg.Kept = keptByDefault
	}
	if cfg.Runtime == nil {
		cfg.Runtime = func() Runtime { return Runtime{} }
	}
	if cfg.machine.network == nil {
		cfg.machine = thisMachine
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	f, err := cfg.machine.facts()
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	return &Node{
		cfg: cfg, facts: f, changed: make(chan struct{}, 1), schedulable: true,
		ref: &corev1.ObjectReference{Kind: "Node", Name: cfg.Name, UID: types.UID(cfg.Name)}, // as kubelets: events are found by the name
	}, nil
}

// Poke has the status computed at once.
func (n *Node) Poke() {
	select {
	case n.changed <- struct{}{}:
	default: // it is to be
	}
}

// Addresses are the node's, as last found out; none: not known yet.
func (n *Node) Addresses() []corev1.NodeAddress {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addresses
}

// Get is the Node as the server last had it; nil: not known yet. It is shared: do not change it.
func (n *Node) Get() *corev1.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.node
}

// Run registers the node and keeps its status and its Lease until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	n.event(corev1.EventTypeNormal, "Starting", "Starting kubelet.")
	if err := n.register(ctx); err != nil {
		return nil //nolint:nilerr // ctx has ended
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { n.watch(ctx) })
	running.Go(func() { n.renew(ctx) })
	n.keep(ctx)
	return nil
}

// renew keeps the Lease.
func (n *Node) renew(ctx context.Context) {
	owned := func(l *coordinationv1.Lease) error {
		node := n.Get()
		if len(l.OwnerReferences) > 0 || node == nil {
			return nil
		}
		l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
		return nil
	}
	lease.NewController(n.cfg.Clock, n.cfg.Client, n.cfg.Name, LeaseSeconds, nil, leaseInterval, n.cfg.Name, corev1.NamespaceNodeLease, owned).Run(ctx)
}

// keep keeps the status true.
func (n *Node) keep(ctx context.Context) {
	started := n.cfg.Clock.Now()
	for {
		ready, err := n.sync(ctx)
		if err != nil && ctx.Err() == nil {
			n.cfg.Log.Warn("The node's status could not be written", "node", n.cfg.Name, "err", err)
		}
		interval := SyncInterval
		if !ready && n.cfg.Clock.Since(started) < startTime {
			interval = startInterval
		}
		timer := n.cfg.Clock.NewTimer(interval)
		select {
		case <-timer.C():
		case <-n.changed:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// tries is how often a write is tried before the next round.
const tries = 5

// sync computes the status and writes it when that is due. The first try begins with what is known of the Node, the others with what the
// server says.
func (n *Node) sync(ctx context.Context) (ready bool, err error) {
	for i := range tries {
		before := n.Get()
		if before == nil || i > 0 {
			if before, err = n.cfg.Client.CoreV1().Nodes().Get(ctx, n.cfg.Name, metav1.GetOptions{}); err != nil {
				err = fmt.Errorf("error getting node %q: %w", n.cfg.Name, err)
				if apierrors.IsNotFound(err) {
					return false, err // who deleted it meant it
				}
				continue
			}
		}
		after := before.DeepCopy()
		changed := n.labelled(after)
		n.setStatus(ctx, after)
		ready = isReady(after)
		changed = changed || statusChanged(&before.Status, &after.Status)
		now := n.cfg.Clock.Now()
		if !changed && now.Sub(n.posted) < PostInterval+n.spread {
			return ready, nil
		}
		first := n.posted.IsZero()
		var updated *corev1.Node
		if updated, _, err = nodeutil.PatchNodeStatus(n.cfg.Client.CoreV1(), types.NodeName(n.cfg.Name), before, after); err != nil {
			continue
		}
		n.posted, n.spread = now, 0
		if changed || first { // the nodes of a cluster are not to write at the same moment ever after
			n.spread = time.Duration((rand.Float64() - 0.5) * float64(PostInterval)) //nolint:gosec // no secret
		}
		n.saw(updated)
		return ready, nil
	}
	return ready, err
}

func (n *Node) event(kind, reason, message string) {
	if n.cfg.Events != nil {
		n.cfg.Events.Event(n.ref, kind, reason, message)
	}
}

func (n *Node) statusEvent(reason string) {
	n.event(corev1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", n.cfg.Name, reason))
}

// register makes the Node, or makes what is there its own, until it has or ctx ends.
func (n *Node) register(ctx context.Context) error {
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 7*time.Second) {
		err := n.tryRegister(ctx)
		if err == nil {
			n.cfg.Log.Info("Registered the node", "node", n.cfg.Name)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n.cfg.Log.Warn("The node could not be registered", "node", n.cfg.Name, "err", err, "again", wait)
		select {
		case <-n.cfg.Clock.After(wait):
		case <-ctx.Done():
		}
	}
}

func (n *Node) tryRegister(ctx context.Context) error {
	wanted := n.initial(ctx)
	nodes := n.cfg.Client.CoreV1().Nodes()
	made, err := nodes.Create(ctx, wanted, metav1.CreateOptions{})
	if err == nil {
		n.posted = n.cfg.Clock.Now()
		n.saw(made)
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	before, err := nodes.Get(ctx, n.cfg.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	after := before.DeepCopy()
	if n.reconcile(wanted, after) {
		if before, _, err = nodeutil.PatchNodeStatus(n.cfg.Client.CoreV1(), types.NodeName(n.cfg.Name), before, after); err != nil {
			return err
		}
	}
	n.saw(before)
	return nil
}
