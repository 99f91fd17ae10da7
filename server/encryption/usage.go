package encryption

import (
	"context"
	"fmt"
	"iter"

	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
)

// pageSize is how many rows are read at a time.
const pageSize = 500

// Objects goes through everything that a store holds at this moment.
func Objects(store storage.Reader) func(ctx context.Context) iter.Seq2[storage.Object, error] {
	return func(ctx context.Context) iter.Seq2[storage.Object, error] {
		return func(yield func(storage.Object, error) bool) {
			opts := storage.ListOptions{Limit: pageSize}
			for {
				page, err := store.List(ctx, storage.Selector{}, opts)
				if err != nil {
					yield(storage.Object{}, fmt.Errorf("list everything: %w", err))
					return
				}
				for _, obj := range page.Objects {
					if !yield(obj, nil) {
						return
					}
				}
				if !page.More || len(page.Objects) == 0 {
					return
				}
				opts.Revision, opts.After = page.Revision, page.Objects[len(page.Objects)-1].Key
			}
		}
	}
}

// Usage tells how often each scheme (see Scheme) encrypts a state of a resource, of Secrets also the plain ones, and which
// generated keys are in use.
type Usage struct {
	Schemes map[string]map[string]int // by resource, then by scheme
	Keys    map[seal.KeyID]bool
}

func (u *Usage) add(resource string, data []byte) {
	scheme := Scheme(data)
	if data == nil || scheme == "plain" && resource != "secrets" {
		return
	}
	if u.Schemes[resource] == nil {
		u.Schemes[resource] = map[string]int{}
	}
	u.Schemes[resource][scheme]++
	if id, ok := UsedKey(data); ok {
		u.Keys[id] = true
	}
}

// Survey finds out what encrypts the present, and what the past that is still kept. It decrypts nothing.
func Survey(ctx context.Context, store storage.Store, past bool) (present, history Usage, err error) {
	present = Usage{Schemes: map[string]map[string]int{}, Keys: map[seal.KeyID]bool{}}
	history = Usage{Schemes: map[string]map[string]int{}, Keys: map[seal.KeyID]bool{}}
	for obj, err := range Objects(store)(ctx) {
		if err != nil {
			return present, history, err
		}
		present.add(obj.Resource, obj.Data)
	}
	if !past {
		return present, history, nil
	}
	after, err := store.Floor(ctx)
	if err != nil {
		return present, history, err
	}
	for {
		batch, err := store.Changes(ctx, after, pageSize)
		if err != nil {
			return present, history, fmt.Errorf("read the log: %w", err)
		}
		for _, ch := range batch.Changes {
			history.add(ch.Resource, ch.Data)
			history.add(ch.Resource, ch.Prev)
		}
		if len(batch.Changes) == 0 || batch.Revision <= after {
			return present, history, nil
		}
		after = batch.Revision
	}
}
