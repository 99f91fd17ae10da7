package crash

import (
	"context"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/tools/cache"
)

// Handler tells the part of the process to which ctx belongs of panics in its handlers of an informer. client-go recovers from
// them too, and knows of no part.
func Handler(ctx context.Context, next cache.ResourceEventHandler) cache.ResourceEventHandler {
	return handler{ctx, next}
}

type handler struct {
	ctx  context.Context
	next cache.ResourceEventHandler
}

func (h handler) OnAdd(obj any, initial bool) {
	defer utilruntime.HandleCrashWithContext(h.ctx)
	h.next.OnAdd(obj, initial)
}

func (h handler) OnUpdate(before, after any) {
	defer utilruntime.HandleCrashWithContext(h.ctx)
	h.next.OnUpdate(before, after)
}

func (h handler) OnDelete(obj any) {
	defer utilruntime.HandleCrashWithContext(h.ctx)
	h.next.OnDelete(obj)
}
