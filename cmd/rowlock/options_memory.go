package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// memoryOptions bound what the process takes.
type memoryOptions struct {
	limit resource.QuantityValue
}

func (o *memoryOptions) addFlags(fs *pflag.FlagSet) {
	fs.Var(&o.limit, "memory-limit", "bytes, as in 512Mi or 4Gi, that the server tries to stay within: a third is for objects' bytes, of which those that are not in use are left in the database, and garbage is collected more often as the rest fills up; 0: all objects are in memory")
}

// minMemoryLimit is twice what an idle server takes.
const minMemoryLimit = 128 << 20

func (o *memoryOptions) validate() error {
	if limit := o.limit.Value(); limit != 0 && limit < minMemoryLimit {
		return fmt.Errorf("--memory-limit %s must be 0 or at least %d", o.limit.String(), minMemoryLimit)
	}
	return nil
}

// What becomes of the limit.
const (
	objectsPart    = 3  // of the limit: objects' bytes, of all clusters
	decodedPart    = 16 // decoded objects of a cluster, at most
	compressedPart = 32 // compressed lists of a cluster, at most
	historyPart    = 64 // history of a cluster in memory, at most
	outsidePart    = 8  // what Go does not count: pages of the binary, SQLite; at most
	maxOutside     = 64 << 20
)

// apply makes the limit hold, for the process and for its clusters.
func (o *memoryOptions) apply(c *controlplane.Config) {
	limit := o.limit.Value()
	if limit == 0 {
		return
	}
	debug.SetMemoryLimit(limit - min(limit/outsidePart, maxOutside))
	c.Objects = cache.NewBudget(limit / objectsPart)
	c.DecodedBytes = min(c.DecodedBytes, limit/decodedPart)
	c.CompressedBytes = min(controlplane.DefaultCompressedBytes, limit/compressedPart)
	c.RecentBytes = min(cache.DefaultRingBytes, limit/historyPart)
}
