package custom

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

const (
	// publishDelay is how long changes are gathered before discovery and OpenAPI follow: a change of many definitions at
	// once, and the first changes of each, cost one round.
	publishDelay = 100 * time.Millisecond
	// unusedAfter is how long what only writes need is kept after the last of them.
	unusedAfter = 3 * time.Minute
	// Schemas in use take at most minRoom, or roomEach for each definition if that is more: those that were not needed for
	// the longest time go first. Each would be made again in some tens of milliseconds.
	minRoom  = 64 << 20
	roomEach = 384 << 10
	// roomDelay is the least time between two looks at what there is.
	roomDelay = time.Second
	// schemaWeight is what all forms of a definition's schemas take in memory, in multiples of its JSON: heap profiles showed
	// 10 where descriptions are long, and 16 where they are short.
	schemaWeight = 16
	// retryDelay is the pause after an error of the database.
	retryDelay = time.Second
)

// Run keeps definitions in step with the cluster, publishes them, and runs their controllers, until ctx ends. A cluster
// without definitions costs one goroutine.
func (h *Handler) Run(ctx context.Context) error {
	defer h.close()
	g, ctx := errgroup.WithContext(ctx)
	started := false
	some := func() {
		if !started {
			started = true
			g.Go(func() error { return h.control(ctx) })
			g.Go(func() error { return h.dropUnused(ctx) })
		}
	}
	g.Go(func() error {
		for {
			err := h.follow(ctx, some)
			if ctx.Err() != nil {
				return nil
			}
			if !errors.Is(err, storage.ErrCompacted) { // the cache was loaded anew
				h.cfg.Log.Warn("Definitions of custom resources could not be followed and are read again", "err", err)
				pause(ctx, retryDelay)
			}
		}
	})
	return g.Wait()
}

// follow reads all definitions and then their changes, until it cannot. some is called when there is a definition.
func (h *Handler) follow(ctx context.Context, some func()) error {
	c := h.cfg.Backend.Cache
	select {
	case <-c.Ready():
	case <-ctx.Done():
		return nil
	}
	snap := c.Snapshot(definitionsResource.String())
	w, err := c.Watch(ctx, storage.Selector{Resource: definitionsResource.String()}, snap.Revision())
	if err != nil {
		return fmt.Errorf("watch definitions: %w", err)
	}
	defer w.Close()
	for _, name := range h.names(snap) {
		h.refresh(name)
	}
	h.publish()
	for {
		if snap.Len() > 0 {
			some()
		}
		b, err := w.Next(ctx)
		if err != nil {
			return fmt.Errorf("watch definitions: %w", err)
		}
		some()
		h.refreshAll(b.Changes)
		pause(ctx, publishDelay)
		if b, err = w.TryNext(); err != nil {
			return fmt.Errorf("watch definitions: %w", err)
		}
		h.refreshAll(b.Changes)
		h.publish()
	}
}

// names are those of all definitions that exist or are known here.
func (h *Handler) names(snap cache.Snapshot) []string {
	var names []string
	snap.Scan("", storage.Key{}, func(e *cache.Entry) bool {
		names = append(names, e.Name)
		return true
	})
	h.mu.RLock()
	defer h.mu.RUnlock()
	for name := range h.definitions {
		if snap.Get("", name) == nil {
			names = append(names, name)
		}
	}
	return names
}

func (h *Handler) refreshAll(changes []cache.Change) {
	for i := range changes {
		h.refresh(changes[i].Entry.Name)
	}
}

// refresh looks at a definition as a request for it would.
func (h *Handler) refresh(name string) {
	if _, err := h.definition(name); err != nil {
		h.cfg.Log.Error("Definition of a custom resource could not be read", "name", name, "err", err)
	}
}

func (h *Handler) all() []*definition {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]*definition, 0, len(h.definitions))
	for _, d := range h.definitions {
		all = append(all, d)
	}
	return all
}

// dropUnused lets go of schemas that were not needed for a while, or that there is no room for.
func (h *Handler) dropUnused(ctx context.Context) error {
	tick := time.NewTicker(unusedAfter / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, d := range h.all() {
				d.dropUnused(now.Add(-unusedAfter))
			}
		case <-h.room:
			h.makeRoom()
			pause(ctx, roomDelay)
		}
	}
}

// close ends what is left of watches.
func (h *Handler) close() {
	for _, d := range h.all() {
		d.stop()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
