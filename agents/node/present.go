package node

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/metrics"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// dial reaches the runtime. Its calls are counted, and what upstream's client says of them is for who looks closely: whoever made a call
// that fails says so in words of its own.
func (a *Agent) dial(ctx context.Context) (*runtime.Runtime, error) {
	quiet := logr.FromSlogHandler(quietly{a.cfg.Log.Handler()})
	with := func(ctx context.Context) context.Context { return logr.NewContext(ctx, quiet) }
	return runtime.Dial(with(ctx), a.cfg.Runtime, runtime.Options{
		Log: a.cfg.Log, ImageEndpoint: a.cfg.Images, CgroupDriver: a.cfg.CgroupDriver, Wait: runtimeWait,
		Around: func(s internalapi.RuntimeService) internalapi.RuntimeService { return a.metrics.Runtime(s, with) },
		AroundImages: func(s internalapi.ImageManagerService) internalapi.ImageManagerService {
			return a.metrics.Images(s, with)
		},
	})
}

// quietly shows nothing above debug.
type quietly struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quietly) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, min(level, slog.LevelDebug))
}

// Handle implements slog.Handler.
func (q quietly) Handle(ctx context.Context, r slog.Record) error {
	r.Level = min(r.Level, slog.LevelDebug)
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (q quietly) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietly{q.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (q quietly) WithGroup(name string) slog.Handler { return quietly{q.Handler.WithGroup(name)} }

// present is what the node has now, as its metrics tell.
func (a *Agent) present() metrics.Present {
	now := metrics.Present{Containers: map[string]int{}}
	pods, _ := a.observer.Pods()
	for _, p := range pods {
		if p.Ready {
			now.Pods++
		}
	}
	for _, report := range a.observer.Reports() {
		for _, c := range report.Containers {
			now.Containers[string(cri.State(c.State))]++
		}
	}
	now.Desired, now.DesiredStatic = bySource(a.source.Pods())
	now.Active, now.ActiveStatic = bySource(a.workers.Active())
	return now
}

func bySource(pods []*corev1.Pod) (api, static int) {
	for _, p := range pods {
		if kubetypes.IsStaticPod(p) {
			static++
		} else {
			api++
		}
	}
	return api, static
}
