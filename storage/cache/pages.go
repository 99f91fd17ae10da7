package cache

import (
	"context"
	"iter"

	"github.com/rowlock-io/rowlock/storage"
)

// pages reads everything at the revision of the first page. The next page is read while the caller works on the last one,
// so that a load uses two cores; there are never more than three in memory.
func (c *Cache) pages(ctx context.Context) iter.Seq2[storage.Page, error] {
	type read struct {
		page storage.Page
		err  error
	}
	return func(yield func(storage.Page, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		ahead := make(chan read, 1)
		defer func() {
			cancel()
			for range ahead { // until the reader has ended
			}
		}()
		go func() {
			defer close(ahead)
			opts := storage.ListOptions{Limit: pageSize}
			for {
				p, err := c.store.List(ctx, storage.Selector{}, opts)
				select {
				case ahead <- read{p, err}:
				case <-ctx.Done():
					return
				}
				if err != nil || !p.More || len(p.Objects) == 0 {
					return
				}
				opts.Revision, opts.After = p.Revision, p.Objects[len(p.Objects)-1].Key
			}
		}()
		for r := range ahead {
			if !yield(r.page, r.err) {
				return
			}
		}
		if err := context.Cause(ctx); err != nil {
			yield(storage.Page{}, err)
		}
	}
}
