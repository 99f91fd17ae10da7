// Package scheduler runs upstream's scheduler as a part of another process, with the clients and informers that it is
// given.
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
	"k8s.io/kubernetes/pkg/scheduler/profile"
)

// Config is what the scheduler of one cluster needs.
type Config struct {
	// Scheduler says how; see Options.
	Scheduler config.KubeSchedulerConfiguration
	Client    kubernetes.Interface
	// Rest is for extenders and for plug-ins that make clients of their own.
	Rest *rest.Config
	// Informers are the scheduler's own (its pods are those that have not ended): started and stopped with it.
	Informers informers.SharedInformerFactory
	Dynamic   dynamicinformer.DynamicSharedInformerFactory
	Log       *slog.Logger
}

// Run schedules until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	ctx = logr.NewContext(ctx, logr.FromSlogHandler(cfg.Log.Handler()))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	broadcaster := events.NewEventBroadcasterAdapterWithContext(ctx, cfg.Client)
	defer broadcaster.Shutdown()
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
	)
	if err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	broadcaster.StartRecordingToSink(ctx.Done())
	cfg.Informers.Start(ctx.Done())
	cfg.Dynamic.Start(ctx.Done())
	defer cfg.Informers.Shutdown()
	defer cfg.Dynamic.Shutdown()
	cfg.Informers.WaitForCacheSync(ctx.Done())
	cfg.Dynamic.WaitForCacheSync(ctx.Done())
	if err := s.WaitForHandlersSync(ctx); err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	s.Run(ctx)
	return nil
}
