// Package scheduler runs upstream's scheduler as a part of another process, with the clients and informers that it is
// given. What would end a process of its own ends Run.
package scheduler

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/profile"

	"github.com/rowlock-io/rowlock/agents/crash"
)

// Config is what the scheduler of one cluster needs.
type Config struct {
	// Scheduler says how; see Load.
	Scheduler config.KubeSchedulerConfiguration
	Client    kubernetes.Interface
	// Rest is for plug-ins that make clients of their own.
	Rest *rest.Config
	// Informers are the scheduler's own (its pods are those that have not ended): started and stopped with it.
	Informers informers.SharedInformerFactory
	Dynamic   dynamicinformer.DynamicSharedInformerFactory
	// Plugins are known beside upstream's.
	Plugins runtime.Registry
	// Crashes tells when a library wants the process to end: upstream does when its cache is wrong.
	Crashes *crash.Handlers
	Log     *slog.Logger
}

// Run schedules until ctx ends. It returns what was wrong when a plug-in, the scheduler itself or a handler of its informers
// panics: it cannot be relied on any more. Run it again.
func Run(ctx context.Context, cfg Config) error {
	ctx, stop := context.WithCancelCause(logr.NewContext(ctx, logr.FromSlogHandler(cfg.Log.Handler())))
	defer stop(nil)
	if cfg.Crashes != nil {
		defer cfg.Crashes.OnExit(func(exit crash.Exit) { stop(exit) })()
	}
	ctx = crash.With(ctx, func(panicked any) { stop(fmt.Errorf("panic: %v", panicked)) })
	cfg.Informers = newFactory(ctx, cfg.Informers)
	s, finish, err := newScheduler(ctx, cfg)
	if err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	defer finish()
	cfg.Informers.Start(ctx.Done())
	cfg.Dynamic.Start(ctx.Done())
	defer cfg.Informers.Shutdown()
	defer cfg.Dynamic.Shutdown()
	defer stop(nil) // before Shutdown waits
	cfg.Informers.WaitForCacheSync(ctx.Done())
	cfg.Dynamic.WaitForCacheSync(ctx.Done())
	if err := s.WaitForHandlersSync(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("scheduler: %w", err)
	}
	s.Run(ctx)
	return context.Cause(ctx)
}

// newScheduler makes the scheduler, and what has to be called when it has stopped.
func newScheduler(ctx context.Context, cfg Config) (*scheduler.Scheduler, func(), error) {
	broadcaster := events.NewEventBroadcasterAdapterWithContext(ctx, cfg.Client)
	c := cfg.Scheduler
	s, err := scheduler.New(ctx, cfg.Client, cfg.Informers, cfg.Dynamic,
		profile.RecorderFactory(func(name string) events.EventRecorderLogger { return broadcaster.NewRecorder(name) }),
		scheduler.WithComponentConfigVersion(c.APIVersion),
		scheduler.WithKubeConfig(cfg.Rest),
		scheduler.WithProfiles(c.Profiles...),
		scheduler.WithPercentageOfNodesToScore(c.PercentageOfNodesToScore),
		scheduler.WithPodMaxBackoffSeconds(c.PodMaxBackoffSeconds),
		scheduler.WithPodInitialBackoffSeconds(c.PodInitialBackoffSeconds),
		scheduler.WithExtenders(c.Extenders...),
		scheduler.WithParallelism(c.Parallelism),
		scheduler.WithFrameworkOutOfTreeRegistry(cfg.Plugins),
	)
	if err != nil {
		broadcaster.Shutdown()
		return nil, nil, err
	}
	guard(s)
	broadcaster.StartRecordingToSink(ctx.Done())
	return s, broadcaster.Shutdown, nil
}
