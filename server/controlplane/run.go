package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/server/bootstrap"
	"github.com/rowlock-io/rowlock/storage/retention"
)

// Run makes the cluster work until ctx ends, then stops its parts in order: requests must have ended by then.
func (c *ControlPlane) Run(ctx context.Context) error {
	defer close(c.stopped)
	defer c.catalogue.Close()
	// What writes outlives what asks for writes.
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBase()
	var storage errgroup.Group
	storage.Go(func() error { return c.backend.Cache.Run(base) })
	storage.Go(func() error { return c.backend.Committer.Run(base) })

	err := c.runAPI(ctx)
	c.backends.self.close()
	c.tunnels.Close()
	stopBase()
	return errors.Join(err, ended(storage.Wait()))
}

func (c *ControlPlane) runAPI(ctx context.Context) error {
	select {
	case <-c.backend.Cache.Ready():
	case <-ctx.Done():
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	c.informers.StartWithContext(ctx)
	c.late.run(ctx.Done(), c.informers)
	defer c.informers.Shutdown()
	g.Go(func() error {
		return ended(retention.Run(ctx, retention.Config{Store: c.cfg.Store, MaxAge: c.cfg.HistoryAge, MaxBytes: c.cfg.HistoryBytes, Floor: c.backend.Cache.Forget, Log: c.cfg.Log, Metrics: c.cfg.Metrics.retention}))
	})
	g.Go(func() error { return ended(adapter.NewSweeper(c.backend, c.cfg.Log, c.catalogue.Codecs()...).Run(ctx)) })
	g.Go(func() error { return c.fairness.Run(ctx) })
	g.Go(func() error { return ended(c.access.run(ctx)) })
	g.Go(func() error { return c.custom.Run(ctx) })
	g.Go(func() error { return c.runBootstrap(ctx) })
	g.Go(func() error { return c.runAggregation(ctx) })
	g.Go(func() error { c.prepare(); return nil })
	g.Go(func() error { return c.runAgents(ctx) })
	return g.Wait()
}

// runBootstrap makes the first objects, trying again for as long as the database is away, and keeps them.
func (c *ControlPlane) runBootstrap(ctx context.Context) error {
	c.informers.WaitForCacheSyncWithContext(ctx)
	c.informed.Store(ctx.Err() == nil)
	select {
	case <-c.remotes.Synced():
	case <-ctx.Done():
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := bootstrap.Ensure(ctx, c.bootstrap)
		c.checks.Bootstrapped(err)
		if err == nil {
			close(c.bootstrapped)
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		c.cfg.Log.Warn("Bootstrap failed and is tried again", "err", err, "after", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return bootstrap.Run(ctx, c.bootstrap) })
	g.Go(func() error { c.encryptStale(ctx); return nil })
	g.Go(func() error { return c.repairNodePorts(ctx, c.informers.Core().V1().Services().Lister()) })
	g.Go(func() error { c.repairClusterIPs(ctx); return nil })
	return g.Wait()
}

// prepare makes ready what the first writes need, while informers fill: a new cluster is about to write its own objects.
func (c *ControlPlane) prepare() {
	if c.backend.Cache.Snapshot("namespaces").Len() == 0 {
		_ = c.owners.Build() // writes fail with the same error
	}
}

// EndWatches closes all watches cleanly; the server calls it when it has stopped accepting.
func (c *ControlPlane) EndWatches() { c.endWatch() }

// Leave takes this replica out of the endpoints of the `kubernetes` Service, and has nodes dial others.
func (c *ControlPlane) Leave() {
	c.tunnels.Leave()
	if c.cfg.Replicas {
		c.bootstrap.Service.Stop()
	}
}

func ended(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("control plane: %w", err)
}
