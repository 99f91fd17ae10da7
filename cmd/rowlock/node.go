package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/rowlock-io/rowlock/agents/node/join"
	"github.com/rowlock-io/rowlock/agents/node/register"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
	"github.com/rowlock-io/rowlock/schema"
)

// runtimeWait is how long a node that starts waits for its container runtime: with the machine both are started at once.
const runtimeWait = 2 * time.Minute

// node is this machine as one of a cluster.
type node struct {
	member  *join.Member
	runtime *runtime.Runtime
	health  *register.Health
	node    *register.Node
	events  record.EventBroadcaster
	client  kubernetes.Interface
	log     *slog.Logger
}

// open joins the cluster and reaches the container runtime.
func (o *nodeOptions) open(ctx context.Context, place nodePlace, log *slog.Logger) (*node, error) {
	reserved, err := o.reserved()
	if err != nil {
		return nil, err
	}
	name, err := o.name()
	if err != nil {
		return nil, err
	}
	rt, err := runtime.Dial(ctx, place.Endpoint, runtime.Options{Log: log, Wait: runtimeWait})
	if err != nil {
		return nil, err
	}
	n := &node{runtime: rt, events: record.NewBroadcaster(record.WithContext(ctx)), log: log}
	if n.member, err = join.Join(ctx, place.Join); err != nil {
		n.close()
		return nil, err
	}
	if n.client, err = kubernetes.NewForConfig(n.member.Config()); err != nil {
		n.close()
		return nil, err
	}
	n.health = register.NewHealth(rt, func() { n.node.Poke() })
	n.node, err = register.New(register.Config{
		Name: name, Addresses: o.split(), Labels: o.labels, Taints: o.taints, ProviderID: o.providerID,
		MaxPods: o.maxPods, PodsPerCore: o.podsPerCore, Reserved: reserved, Version: schema.Version, DataDir: place.Dir,
		Runtime: n.health.Runtime, Images: n.health.Images, Ready: n.health.Errors,
		Client: n.client, Events: n.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: name}), Log: log,
	})
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// run is the node until ctx ends.
func (n *node) run(ctx context.Context) error {
	n.events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: n.client.CoreV1().Events("")})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.member.Run(ctx) })
	g.Go(func() error { return n.health.Run(ctx) })
	g.Go(func() error { return n.node.Run(ctx) })
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (n *node) close() {
	n.events.Shutdown()
	if err := n.runtime.Close(context.Background()); err != nil {
		n.log.Debug("The connection to the container runtime was not closed", "err", fmt.Sprint(err))
	}
}
