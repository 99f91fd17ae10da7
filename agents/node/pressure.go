package node

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rowlock-io/rowlock/agents/node/eviction"
	"github.com/rowlock-io/rowlock/agents/node/register"
	"github.com/rowlock-io/rowlock/agents/node/shutdown"
	"github.com/rowlock-io/rowlock/agents/node/worker"
)

// makeEviction makes what keeps the machine from running out of something.
func (a *Agent) makeEviction() {
	a.eviction = eviction.New(eviction.Config{
		Policy: a.cfg.Eviction, Measure: a.measures.Left,
		Layout: func(ctx context.Context) (eviction.Layout, error) {
			images, split, err := a.measures.Apart(ctx)
			return eviction.Layout{Images: images, Split: split}, err
		},
		Pods: func() []*corev1.Pod { return a.workers.Active() }, Kill: a.end, Finished: a.finished,
		RemoveContainers: func(ctx context.Context) error { return a.garbage.RemoveUnusedContainers(ctx) },
		RemoveImages:     func(ctx context.Context) error { return a.garbage.RemoveUnusedImages(ctx) },
		Changed:          func() { a.node.Poke() }, Node: a.reference(), Events: a.events, Log: a.cfg.Log,
	})
	a.cfg.Metrics.MustRegister(a.eviction.Evictions)
}

// evict looks after the machine as soon as it is known which pods it has.
func (a *Agent) evict(ctx context.Context) error {
	if a.observed(ctx) != nil {
		return nil // ctx has ended
	}
	return a.eviction.Run(ctx)
}

// makeShutdown makes what ends pods before the machine is shut down.
func (a *Agent) makeShutdown() {
	a.shutdown = shutdown.New(shutdown.Config{
		Periods: a.cfg.Shutdown, Pods: func() []*corev1.Pod { return a.workers.Active() }, Kill: a.end, Finished: a.finished,
		Changed: func() { a.node.Poke() }, Node: a.reference(), Events: a.events, Log: a.cfg.Log,
	})
}

// finished: nothing of what the pod used is in use any more.
func (a *Agent) finished(uid types.UID) bool {
	phase, known := a.workers.Phase(uid)
	return !known || phase == worker.Finished
}

// pressure is what the node's conditions tell.
func (a *Agent) pressure() register.Pressure {
	under := a.eviction.Pressure()
	has := func(c corev1.NodeConditionType) bool { return slices.Contains(under, c) }
	return register.Pressure{Memory: has(corev1.NodeMemoryPressure), Disk: has(corev1.NodeDiskPressure), PID: has(corev1.NodePIDPressure)}
}

// kept is what of the machine has to stay free.
func (a *Agent) kept(capacity corev1.ResourceList) corev1.ResourceList {
	return eviction.Reserved(a.cfg.Eviction.Thresholds, capacity)
}
