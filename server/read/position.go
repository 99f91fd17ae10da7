package read

import (
	"context"
	"errors"
	"fmt"

	"github.com/rowlock-io/rowlock/storage"
)

// errNotReady is told while the cache has not loaded yet, in upstream's words for it.
var errNotReady = errors.New("storage is (re)initializing")

// current waits until the cache shows everything that was committed before the call.
func (h *Handler) current(ctx context.Context, res *Resource) error {
	if _, err := res.Cache.Current(ctx); err != nil {
		return fmt.Errorf("read current revision: %w", err)
	}
	return nil
}

// notOlderThan waits until the cache has reached a revision, for FreshnessTimeout at most. 0 is any loaded state.
func (h *Handler) notOlderThan(ctx context.Context, res *Resource, rev storage.Revision) error {
	select {
	case <-res.Cache.Ready():
		if res.Cache.Position().Revision >= rev {
			return nil
		}
	default:
	}
	wait, cancel := context.WithTimeout(ctx, h.cfg.FreshnessTimeout)
	defer cancel()
	select {
	case <-res.Cache.Ready():
	case <-wait.Done():
		return fmt.Errorf("%w: %w", storage.ErrBusy, errNotReady)
	}
	err := res.Cache.WaitFor(wait, rev)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("wait for revision %d: %w", rev, ctx.Err())
	case wait.Err() != nil || errors.Is(err, storage.ErrFuture):
		return tooLarge(rev, res.Cache.Position().Revision)
	}
	return fmt.Errorf("wait for revision %d: %w", rev, err)
}
