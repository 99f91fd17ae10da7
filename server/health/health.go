// Package health answers whether a server lives and is ready, in the form of kube-apiserver's /healthz, /livez and
// /readyz: "ok", or a line for each check with ?verbose, one check at /readyz/<name>, some left out with ?exclude.
package health

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/server/healthz"
)

// Checks are the conditions of one cluster.
type Checks struct {
	// Store answers for the database.
	Store interface{ Ready(context.Context) error }
	// Loaded is closed when the cache holds the present.
	Loaded <-chan struct{}
	// Synced tells whether the informers of the server's own parts have theirs.
	Synced func() bool
	// Defined tells whether the definitions of custom resources have been read.
	Defined func() bool
	// Routed is closed when it is known which groups are served by others.
	Routed <-chan struct{}
	// Plugins answer for what the operator plugged in, such as KMS providers. Without them a server lives, but is not ready.
	Plugins []healthz.HealthChecker
	// Parts are shown, and make nobody unready.
	Parts Parts

	bootstrapped atomic.Pointer[error] // points to nil when done
	stopping     atomic.Bool
}

// Bootstrapped records the outcome of making the first objects; nil means that they are there.
func (c *Checks) Bootstrapped(err error) { c.bootstrapped.Store(&err) }

// Stop makes the server not ready, so that balancers turn away before it stops listening.
func (c *Checks) Stop() { c.stopping.Store(true) }

// databaseTimeout bounds one question to the database.
const databaseTimeout = 5 * time.Second

func (c *Checks) database(req *http.Request) error {
	ctx, cancel := context.WithTimeout(req.Context(), databaseTimeout)
	defer cancel()
	return c.Store.Ready(ctx)
}

func (c *Checks) cache(*http.Request) error {
	select {
	case <-c.Loaded:
		return nil
	default:
		return errors.New("the cache is loading")
	}
}

func (c *Checks) informers(*http.Request) error {
	if !c.Synced() {
		return errors.New("informers not started yet")
	}
	return nil
}

func (c *Checks) definitions(*http.Request) error {
	if !c.Defined() {
		return errors.New("not finished")
	}
	return nil
}

func (c *Checks) registration(*http.Request) error {
	select {
	case <-c.Routed:
		return nil
	default:
		return errors.New("not finished")
	}
}

func (c *Checks) bootstrap(*http.Request) error {
	err := c.bootstrapped.Load()
	if err == nil {
		return errors.New("not finished")
	}
	return *err
}

func (c *Checks) shutdown(*http.Request) error {
	if c.stopping.Load() {
		return errors.New("process is shutting down")
	}
	return nil
}

// Mux is where handlers are put.
type Mux interface {
	Handle(pattern string, handler http.Handler)
}

// Install puts the handlers. Names that monitors know from kube-apiserver are kept: etcd stands for the database.
func (c *Checks) Install(mux Mux) []string {
	ping, log := healthz.PingHealthz, healthz.LogHealthz
	database := healthz.NamedCheck("etcd", c.database)
	cache := healthz.NamedCheck("cache", c.cache)
	hooks := c.hooks()
	live := slices.Concat([]healthz.HealthChecker{ping, log, database}, hooks)
	ready := slices.Concat([]healthz.HealthChecker{
		ping, log, database, healthz.NamedCheck("etcd-readiness", c.database), cache, healthz.NamedCheck("informer-sync", c.informers),
	}, hooks, []healthz.HealthChecker{healthz.NamedCheck("shutdown", c.shutdown)})
	ready = append(ready, c.Plugins...)
	healthy := slices.Concat(live, c.Plugins)
	healthz.InstallHandler(mux, healthy...)
	healthz.InstallLivezHandler(mux, live...)
	healthz.InstallReadyzHandler(partsMux{mux, "/readyz", &c.Parts}, ready...)
	var paths []string
	for path, checks := range map[string][]healthz.HealthChecker{"/healthz": healthy, "/livez": live, "/readyz": ready} {
		paths = append(paths, path)
		for _, check := range checks {
			paths = append(paths, path+"/"+check.Name())
		}
	}
	return paths
}
