package controlplane

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/rowlock-io/rowlock/server/encryption"
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
