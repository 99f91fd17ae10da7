package inform

import (
	"strconv"
	"time"

	"k8s.io/client-go/tools/cache"
)

// current is an informer whose store, when it is asked how far it has come, first catches up with the cluster's cache.
//
// Loops ask that to find out whether they see their own writes, and when they do not they put off what they were about to do, with
// an error. Where the server is another process they would learn of a write's answer and of its event at about the same time. Here the
// answer is faster, as the event passes through half a dozen goroutines on its way to the store, and loops would hardly ever see
// what they wrote.
type current struct {
	cache.SharedIndexInformer
	indexer currentIndexer
}

// newCurrent wraps an informer of everything that a source has.
func newCurrent(of cache.SharedIndexInformer, s *source) *current {
	return &current{of, currentIndexer{of.GetIndexer(), s}}
}

func (c *current) GetStore() cache.Store { return c.indexer }

func (c *current) GetIndexer() cache.Indexer { return c.indexer }

type currentIndexer struct {
	cache.Indexer
	source *source
}

// Bounds of the wait for the cache's last change: how often is looked, and for how long. An informer that is further behind says
// so, and its loop comes back later.
const (
	firstLook = 50 * time.Microsecond
	patience  = time.Second
)

// LastStoreSyncResourceVersion implements cache.Store.
func (i currentIndexer) LastStoreSyncResourceVersion() string {
	want := uint64(i.source.changed())
	began := time.Now()
	for pause := firstLook; ; pause *= 2 {
		has := i.Indexer.LastStoreSyncResourceVersion()
		if n, err := strconv.ParseUint(has, 10, 64); err != nil || n >= want || time.Since(began) > patience {
			return has
		}
		time.Sleep(pause)
	}
}
