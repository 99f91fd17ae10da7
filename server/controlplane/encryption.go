package controlplane

import (
	"context"
	"fmt"
	"iter"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/rowlock-io/rowlock/server/encryption"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// openKeys reads or makes the keys that the cluster's Secrets are encrypted with.
func (c *ControlPlane) openKeys(ctx context.Context) (err error) {
	if c.keys, err = encryption.Load(ctx, c.cfg.Store, c.cfg.Keys, c.cfg.Log); err != nil {
		return fmt.Errorf("cluster %s: %w", c.cfg.Name, err)
	}
	c.keys.Follow(c.backend.Cache)
	return nil
}

// transformer is what a resource is encrypted with at rest; nil: with nothing.
func (c *ControlPlane) transformer(gr schema.GroupResource) value.Transformer {
	return c.keys.Transformer(gr, c.cfg.Encryption)
}

// encryptStale encrypts Secrets that an earlier version left plain, or that a key encrypts which was rotated out. What
// providers of the operator encrypt is rewritten when the operator says so (rowlock encryption rewrite), as with kube-apiserver.
func (c *ControlPlane) encryptStale(ctx context.Context) {
	rewrite := encryption.Rewrite{
		Keys: c.keys, Providers: c.cfg.Encryption,
		Objects: c.secrets,
		Commit: func(ctx context.Context, ops []storage.Op) ([]storage.Result, error) {
			return c.backend.Committer.CommitAll(ctx, ops, nil)
		},
	}
	if c.cfg.Encryption.Covers(secretResource) {
		return
	}
	done, err := rewrite.Run(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.cfg.Log.Warn("Secrets could not all be encrypted with the present key; the next start tries again", "encrypted", done.Written, "err", err)
	case done.Written > 0 || done.Unreadable > 0:
		c.cfg.Log.Info("Secrets were encrypted with the present key", "encrypted", done.Written, "unreadable", done.Unreadable)
	}
}

var secretResource = schema.GroupResource{Resource: "secrets"}

// secrets goes through the Secrets that the cache holds.
func (c *ControlPlane) secrets(context.Context) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		c.backend.Cache.Snapshot(secretResource.Resource).Scan("", storage.Key{}, func(e *cache.Entry) bool {
			return yield(e.Object())
		})
	}
}
