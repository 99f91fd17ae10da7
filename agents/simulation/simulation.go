// Package simulation plays the kubelets of nodes that do not exist: their Node objects are ready and their leases renewed,
// and pods that are bound to them run, in the API, at once. No container is started anywhere.
//
// It knows nothing but the API, so that it runs beside any server. A node is simulated when it has the Label; whoever makes
// such a Node gets it played too.
package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// Label marks the nodes that are simulated. Its value is "true".
const Label = "rowlock.io/simulated"

// DefaultRange is where pods get their addresses from.
const DefaultRange = "10.0.0.0/16"

// MaxNodes is how many nodes have an address of their own.
const MaxNodes = 65_000

// Config is what the simulated nodes of one cluster need.
type Config struct {
	// Nodes is how many there are, sim-0 and up. Those of an earlier run that are too many are deleted.
	Nodes int
	// JobTime is how long pods of Jobs run until they have succeeded; with 0 they are never seen running.
	JobTime time.Duration
	// Ranges are where pods get their addresses from, one of each; at most one a family. None: DefaultRange.
	Ranges []netip.Prefix
	// Version is what the nodes' kubelets say theirs is.
	Version string
	Client  kubernetes.Interface
	// Informers are the simulation's own: they are started and stopped with it.
	Informers informers.SharedInformerFactory
	Log       *slog.Logger
}

// Run plays the nodes until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	if len(cfg.Ranges) == 0 {
		cfg.Ranges = []netip.Prefix{netip.MustParsePrefix(DefaultRange)}
	}
	core := cfg.Informers.Core().V1()
	nodes := newNodes(cfg, core.Nodes().Lister())
	pods := newPods(cfg, core.Pods().Lister(), core.Nodes().Lister())
	nodesHeard, err := core.Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { nodes.changed(obj) },
		UpdateFunc: func(before, obj any) {
			nodes.changed(obj)
			if !simulated(before.(*corev1.Node)) && simulated(obj.(*corev1.Node)) {
				pods.all(obj.(*corev1.Node).Name)
			}
		},
		DeleteFunc: nodes.deleted,
	})
	if err != nil {
		return fmt.Errorf("simulated nodes: %w", err)
	}
	podsHeard, err := core.Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { pods.changed(obj) },
		UpdateFunc: func(_, obj any) { pods.changed(obj) },
		DeleteFunc: pods.deleted,
	})
	if err != nil {
		return fmt.Errorf("simulated nodes: %w", err)
	}
	cfg.Informers.Start(ctx.Done())
	defer cfg.Informers.Shutdown()
	// Only now is it known which addresses pods have already.
	if !cache.WaitForCacheSync(ctx.Done(), nodesHeard.HasSynced, podsHeard.HasSynced) {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	stopNodes, stopPods := work(ctx, nodes.queue, nodeWorkers, nodes.act), work(ctx, pods.queue, podWorkers, pods.act)
	nodes.populate(ctx)
	<-ctx.Done()
	stop()
	stopNodes()
	stopPods()
	return nil
}

// Workers wait for the disk together: several writes are one commit.
const (
	nodeWorkers = 8
	podWorkers  = 16
)

type queue[T comparable] = workqueue.TypedRateLimitingInterface[T]

func newQueue[T comparable]() queue[T] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[T](50*time.Millisecond, 30*time.Second))
}

// work takes items from the queue until ctx ends; what fails is tried again. The function waits for the workers' end.
func work[T comparable](ctx context.Context, q queue[T], workers int, act func(context.Context, T) error) (stopped func()) {
	done := make(chan struct{}, workers)
	for range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				item, down := q.Get()
				if down {
					return
				}
				if err := act(ctx, item); err != nil && ctx.Err() == nil {
					q.AddRateLimited(item)
				} else {
					q.Forget(item)
				}
				q.Done(item)
			}
		}()
	}
	return func() {
		q.ShutDown()
		for range workers {
			<-done
		}
	}
}

func simulated(node *corev1.Node) bool { return node.Labels[Label] == "true" }
