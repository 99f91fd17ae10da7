package read

import (
	"context"
	"fmt"

	"github.com/rowlock-io/rowlock/storage"
)

// current waits until the cache shows everything that was committed before the call.
func (h *Handler) current(ctx context.Context, res *Resource) error {
	if _, err := res.Cache.Current(ctx); err != nil {
		return fmt.Errorf("read the current revision: %w", err)
	}
	return nil
}

// notOlderThan waits until the cache has reached a revision. 0 is any loaded state. One beyond the database's head was
// never handed out by any replica, so there is no use in waiting for it.
func (h *Handler) notOlderThan(ctx context.Context, res *Resource, rev storage.Revision) error {
	select {
	case <-res.Cache.Ready():
	default:
		select {
		case <-res.Cache.Ready():
		case <-ctx.Done():
			return fmt.Errorf("wait for the cache: %w", ctx.Err())
		}
	}
	if res.Cache.Position().Revision >= rev {
		return nil
	}
	head, err := res.Cache.Current(ctx)
	if err != nil {
		return fmt.Errorf("read the current revision: %w", err)
	}
	if head < rev {
		return tooLarge(rev, head)
	}
	return nil
}

// settle brings the cache to where a read with this resourceVersion may look: "" means the present, as the database has it.
func (h *Handler) settle(ctx context.Context, res *Resource, asked string, rev storage.Revision) error {
	if asked == "" {
		return h.current(ctx, res)
	}
	return h.notOlderThan(ctx, res, rev)
}
