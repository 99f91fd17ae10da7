package scheduler

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"github.com/rowlock-io/rowlock/agents/crash"
	"github.com/rowlock-io/rowlock/informer"
)

// guard has panics told where upstream lets them end the process: in what runs in goroutines of its own to bind a pod. In the
// scheduling cycle, and in its parallel parts, upstream handles them.
func guard(s *scheduler.Scheduler) {
	for name, profile := range s.Profiles {
		s.Profiles[name] = binding{profile}
	}
	fail := s.FailureHandler
	s.FailureHandler = func(ctx context.Context, f framework.Framework, pod *framework.QueuedPodInfo, status *fwk.Status, nominating *fwk.NominatingInfo, start time.Time) {
		defer utilruntime.HandleCrashWithContext(ctx)
		fail(ctx, f, pod, status, nominating, start)
	}
}

// binding is a profile whose plug-ins may panic while a pod is bound. The pod is not bound then, as far as the scheduler knows,
// which ends.
type binding struct{ framework.Framework }

// guarded runs a step; one that panics has failed.
func guarded(ctx context.Context, step func() *fwk.Status) (status *fwk.Status) {
	defer utilruntime.HandleCrashWithContext(ctx, func(_ context.Context, panicked any) {
		status = fwk.AsStatus(fmt.Errorf("panic: %v", panicked))
	})
	return step()
}

func (b binding) RunPreBindPlugins(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, node string) *fwk.Status {
	return guarded(ctx, func() *fwk.Status { return b.Framework.RunPreBindPlugins(ctx, state, pod, node) })
}

func (b binding) RunPreBindPreFlights(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, node string) *fwk.Status {
	return guarded(ctx, func() *fwk.Status { return b.Framework.RunPreBindPreFlights(ctx, state, pod, node) })
}

func (b binding) WaitOnPermit(ctx context.Context, pod *corev1.Pod) *fwk.Status {
	return guarded(ctx, func() *fwk.Status { return b.Framework.WaitOnPermit(ctx, pod) })
}

func (b binding) RunBindPlugins(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, node string) *fwk.Status {
	return guarded(ctx, func() *fwk.Status { return b.Framework.RunBindPlugins(ctx, state, pod, node) })
}

func (b binding) RunPostBindPlugins(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, node string) {
	defer utilruntime.HandleCrashWithContext(ctx)
	b.Framework.RunPostBindPlugins(ctx, state, pod, node)
}

func (b binding) RunReservePluginsUnreserve(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, node string) {
	defer utilruntime.HandleCrashWithContext(ctx)
	b.Framework.RunReservePluginsUnreserve(ctx, state, pod, node)
}

// factory makes informers whose handlers tell of panics.
type factory struct {
	informer.Groups
	upstream
	ctx context.Context //nolint:containedctx // of the scheduler's life, which the informers share
}

// upstream is a type of its own so that Groups lie above its groups.
type upstream struct {
	informers.SharedInformerFactory
}

func newFactory(ctx context.Context, of informers.SharedInformerFactory) factory {
	f := factory{upstream: upstream{of}, ctx: ctx}
	f.Groups = informer.Groups{Factory: f}
	return f
}

func (f factory) InformerFor(obj runtime.Object, make internalinterfaces.NewInformerFunc) cache.SharedIndexInformer {
	return listened{f.SharedInformerFactory.InformerFor(obj, make), f.ctx}
}

type listened struct {
	cache.SharedIndexInformer
	ctx context.Context //nolint:containedctx // see factory
}

func (i listened) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandler(crash.Handler(i.ctx, h))
}

func (i listened) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, period time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithResyncPeriod(crash.Handler(i.ctx, h), period)
}

func (i listened) AddEventHandlerWithOptions(h cache.ResourceEventHandler, options cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithOptions(crash.Handler(i.ctx, h), options)
}
