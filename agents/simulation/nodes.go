package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

// As kubelets have it by default.
const (
	leaseDuration  = 40 * time.Second
	leasePeriod    = leaseDuration / 4
	statusPeriod   = 5 * time.Minute
	leaseNamespace = corev1.NamespaceNodeLease
)

// ownPrefix begins the names of the nodes that the simulation makes.
const ownPrefix = "sim-"

// nodes keeps the simulated nodes alive.
type nodes struct {
	client  kubernetes.Interface
	lister  corelisters.NodeLister
	queue   queue[string]
	count   int
	version string
	log     *slog.Logger

	mu     sync.Mutex
	leases map[string]*lease
}

// lease is that of a node. Who works on the node has it alone.
type lease struct {
	object *coordinationv1.Lease // as last seen; nil: not known
	next   time.Time             // when it is due
}

func newNodes(cfg Config, lister corelisters.NodeLister) *nodes {
	return &nodes{
		client: cfg.Client, lister: lister, queue: newQueue[string](), count: cfg.Nodes, version: cfg.Version, log: cfg.Log,
		leases: map[string]*lease{},
	}
}

func (n *nodes) changed(obj any) {
	if node, ok := obj.(*corev1.Node); ok && simulated(node) {
		n.queue.Add(node.Name)
	}
}

func (n *nodes) deleted(obj any) {
	if name, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
		n.queue.Add(name)
	}
}

// own tells the number of a node that the simulation has made.
func own(name string) (int, bool) {
	number, ok := strings.CutPrefix(name, ownPrefix)
	i, err := strconv.Atoi(number)
	return i, ok && err == nil && i >= 0 && strconv.Itoa(i) == number
}

// populate makes the nodes that are missing and deletes those that are too many, until it is done.
func (n *nodes) populate(ctx context.Context) {
	backoff := wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.2, Steps: 6, Cap: time.Minute}
	for ctx.Err() == nil {
		err := n.populateOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		after := backoff.Step()
		n.log.Warn("Simulated nodes could not be made", "err", err, "after", after)
		select {
		case <-time.After(after):
		case <-ctx.Done():
		}
	}
}

func (n *nodes) populateOnce(ctx context.Context) error {
	all, err := n.lister.List(labels.Everything())
	if err != nil {
		return err
	}
	there := make([]bool, n.count)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(nodeWorkers)
	for _, node := range all {
		i, ours := own(node.Name)
		switch {
		case !ours:
		case i < n.count:
			there[i] = true
			if !simulated(node) {
				n.log.Warn("A node of this name is there and is not simulated", "node", node.Name, "label", Label)
			}
		case simulated(node):
			g.Go(func() error { return n.delete(ctx, node) })
		}
	}
	for i := range n.count {
		if !there[i] {
			g.Go(func() error { return n.create(ctx, i) })
		}
	}
	return g.Wait()
}

func (n *nodes) create(ctx context.Context, i int) error {
	name := ownPrefix + strconv.Itoa(i)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		Label: "true", corev1.LabelOSStable: nodeOS, corev1.LabelArchStable: nodeArch, corev1.LabelHostname: name,
	}}}
	node.Status = nodeStatus(node, n.version, metav1.Now())
	_, err := n.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", name, err)
	}
	return nil
}

func (n *nodes) delete(ctx context.Context, node *corev1.Node) error {
	err := n.client.CoreV1().Nodes().Delete(ctx, node.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(node.UID))})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", node.Name, err)
	}
	n.log.Info("Deleted a simulated node that is one too many", "node", node.Name)
	return nil
}

// act does what a node's kubelet has to do by now.
func (n *nodes) act(ctx context.Context, name string) error {
	node, err := n.lister.Get(name)
	if err != nil || !simulated(node) {
		n.mu.Lock()
		delete(n.leases, name)
		n.mu.Unlock()
		return nil // a kubelet does not register a second time either
	}
	if err := n.report(ctx, node); err != nil {
		return n.failed(ctx, "status", node, err)
	}
	n.mu.Lock()
	l := n.leases[name]
	if l == nil {
		l = &lease{}
		n.leases[name] = l
	}
	n.mu.Unlock()
	if wait := time.Until(l.next); wait > 0 {
		n.queue.AddAfter(name, wait)
		return nil
	}
	if err := n.renew(ctx, node, l); err != nil {
		l.object = nil // to be read again
		return n.failed(ctx, "lease", node, err)
	}
	period := leasePeriod
	if l.next.IsZero() { // from here on the nodes' turns are spread
		period = time.Duration(rand.Int64N(int64(leasePeriod))) //nolint:gosec // no secret
	}
	l.next = time.Now().Add(period)
	n.queue.AddAfter(name, period)
	return nil
}

// failed tells of an error, unless it means only that what was known was old.
func (n *nodes) failed(ctx context.Context, what string, node *corev1.Node, err error) error {
	if ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		n.log.Warn("A simulated node could not tell that it is alive", "node", node.Name, "what", what, "err", err)
	}
	return err
}

// report writes the node's status when it changed, and now and then when it did not.
func (n *nodes) report(ctx context.Context, node *corev1.Node) error {
	now := metav1.Now()
	status := nodeStatus(node, n.version, now)
	if beat := heartbeat(node); now.Sub(beat.Time) < statusPeriod {
		same := status.DeepCopy()
		setHeartbeats(same, beat)
		if equality.Semantic.DeepEqual(same, &node.Status) {
			return nil
		}
	}
	updated := *node
	updated.Status = status
	_, err := n.client.CoreV1().Nodes().UpdateStatus(ctx, &updated, metav1.UpdateOptions{})
	return err
}

// renew makes the node's lease or makes it newer.
func (n *nodes) renew(ctx context.Context, node *corev1.Node, l *lease) error {
	leases := n.client.CoordinationV1().Leases(leaseNamespace)
	if l.object == nil {
		made, err := leases.Create(ctx, leaseOf(node), metav1.CreateOptions{})
		if err == nil {
			l.remember(made)
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		if l.object, err = leases.Get(ctx, node.Name, metav1.GetOptions{}); err != nil {
			return err
		}
	}
	want := leaseOf(node)
	want.ResourceVersion, want.UID = l.object.ResourceVersion, l.object.UID
	if want.UID != "" && len(l.object.Labels)+len(l.object.Annotations) > 0 {
		want.Labels, want.Annotations = l.object.Labels, l.object.Annotations
	}
	updated, err := leases.Update(ctx, want, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	l.remember(updated)
	return nil
}

func (l *lease) remember(object *coordinationv1.Lease) {
	object.ManagedFields = nil
	l.object = object
}

func leaseOf(node *corev1.Node) *coordinationv1.Lease {
	now := metav1.NowMicro()
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: node.Name, Namespace: leaseNamespace,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To(node.Name), LeaseDurationSeconds: ptr.To(int32(leaseDuration.Seconds())), RenewTime: &now,
		},
	}
}
