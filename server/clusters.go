package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/fairness"
	"github.com/rowlock-io/rowlock/storage"
)

// ClustersConfig is what all clusters of a process share.
type ClustersConfig struct {
	Database storage.Database
	// Plane is the configuration of a control plane, but for its name and store.
	Plane controlplane.Config
	// Keep names the clusters that are never closed for being idle. They are the operator's: what tells of the whole
	// process is shown there only.
	Keep []string
	// Idle is how long a cluster stays open with no request under way.
	Idle time.Duration
	Log  *slog.Logger
}

// DefaultIdle is long enough that a client which polls each minute does not make a cluster open each time.
const DefaultIdle = 15 * time.Minute

// Clusters opens control planes when they are asked for and closes idle ones. It is safe for concurrent use.
type Clusters struct {
	cfg  ClustersConfig
	keep map[string]bool

	mu     sync.Mutex
	open   map[string]*hosted
	closed bool
	wg     sync.WaitGroup // of hosted.run
}

// hosted is one open cluster.
type hosted struct {
	name   string
	ready  chan struct{} // closed when plane or err is set
	plane  *controlplane.ControlPlane
	err    error
	cancel context.CancelFunc

	users int // guarded by Clusters.mu
	idle  *time.Timer
}

// NewClusters returns an empty host.
func NewClusters(cfg ClustersConfig) *Clusters {
	if cfg.Idle == 0 {
		cfg.Idle = DefaultIdle
	}
	cfg.Plane.FlowMarks = &fairness.Marks{}
	c := &Clusters{cfg: cfg, keep: map[string]bool{}, open: map[string]*hosted{}}
	for _, name := range cfg.Keep {
		c.keep[name] = true
	}
	return c
}

// Acquire returns a cluster's control plane, opening it if need be; release must be called when the request has ended.
// It fails with storage.ErrNotFound for a name that no cluster has.
func (c *Clusters) Acquire(ctx context.Context, name string) (*controlplane.ControlPlane, func(), error) {
	if len(validation.IsDNS1123Label(name)) > 0 { // a name may be the first label of a host name
		return nil, nil, fmt.Errorf("cluster %q: %w", name, storage.ErrNotFound)
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, nil, fmt.Errorf("cluster %q: %w", name, storage.ErrClosed)
	}
	h := c.open[name]
	if h == nil {
		h = c.startLocked(name)
	}
	h.users++
	if h.idle != nil {
		h.idle.Stop()
	}
	c.mu.Unlock()
	release := func() { c.release(h) }
	select {
	case <-h.ready:
	case <-ctx.Done():
		release()
		return nil, nil, ctx.Err()
	}
	if h.err != nil {
		release()
		return nil, nil, h.err
	}
	return h.plane, release, nil
}

func (c *Clusters) startLocked(name string) *hosted {
	ctx, cancel := context.WithCancel(context.Background())
	h := &hosted{name: name, ready: make(chan struct{}), cancel: cancel}
	c.open[name] = h
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		c.run(ctx, h)
		c.mu.Lock()
		if c.open[name] == h {
			delete(c.open, name) // the next request tries again
		}
		c.mu.Unlock()
	}()
	return h
}

// run opens a cluster, works it until ctx ends, and closes its store.
func (c *Clusters) run(ctx context.Context, h *hosted) {
	store, err := c.cfg.Database.OpenCluster(ctx, h.name)
	if err == nil {
		defer func() {
			if err := store.Close(); err != nil && !errors.Is(err, storage.ErrClosed) {
				c.cfg.Log.Warn("Store of a cluster did not close cleanly", "cluster", h.name, "err", err)
			}
		}()
		cfg := c.cfg.Plane
		cfg.Name, cfg.Store, cfg.Operator = h.name, store, c.keep[h.name]
		if !cfg.Operator {
			cfg.Path = clusterPrefix + h.name
		}
		if cfg.Log != nil {
			cfg.Log = cfg.Log.With("cluster", h.name)
		}
		h.plane, err = controlplane.Open(ctx, cfg)
	}
	h.err = err
	close(h.ready)
	if err != nil {
		return
	}
	if err := h.plane.Run(ctx); err != nil {
		c.cfg.Log.Error("Cluster stopped", "cluster", h.name, "err", err)
	}
}

func (c *Clusters) release(h *hosted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.users--
	if h.users > 0 || c.keep[h.name] || c.closed {
		return
	}
	h.idle = time.AfterFunc(c.cfg.Idle, func() { c.dropIdle(h) })
}

func (c *Clusters) dropIdle(h *hosted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.users > 0 || c.open[h.name] != h {
		return
	}
	delete(c.open, h.name)
	h.cancel()
}

// planes lists the clusters that are open.
func (c *Clusters) planes() []*controlplane.ControlPlane {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*controlplane.ControlPlane
	for _, h := range c.open {
		select {
		case <-h.ready:
			if h.err == nil {
				all = append(all, h.plane)
			}
		default:
		}
	}
	return all
}

func (c *Clusters) stopReady() {
	for _, p := range c.planes() {
		p.Checks().Stop()
		p.Leave()
		p.StopAgents()
	}
}

func (c *Clusters) endWatches() {
	for _, p := range c.planes() {
		p.EndWatches()
	}
}

// Close stops all clusters and waits until their stores are closed.
func (c *Clusters) Close() error {
	c.mu.Lock()
	c.closed = true
	for _, h := range c.open {
		h.cancel()
	}
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}
