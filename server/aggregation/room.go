package aggregation

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/rowlock-io/rowlock/server/outbound"
)

// Bounds of what servers say of themselves, which is a user's word: in memory it takes many times its length when it is
// made of small objects.
const (
	// maxWeight is of one document. The OpenAPI document of all of Kubernetes weighs a third of it.
	maxWeight = 32 << 20
	// maxKept is of what is remembered of all servers of a cluster.
	maxKept = 2 * maxWeight
	// objectWeight is added to a document's length for each object in it.
	objectWeight = 256
	// maxLearning is how many servers of a cluster are listened to at a time.
	maxLearning = 2
)

// weigh estimates what a JSON document takes in memory.
func weigh(document []byte) int64 {
	return int64(len(document)) + objectWeight*int64(bytes.Count(document, []byte{'{'}))
}

// room is for what is remembered of the servers of a cluster.
type room struct {
	learning chan struct{} // holds one for each that is listened to

	mu   sync.Mutex
	kept int64
}

func newRoom() *room { return &room{learning: make(chan struct{}, maxLearning)} }

// enter waits for a turn to listen; leave ends it.
func (r *room) enter(ctx context.Context) (leave func(), err error) {
	select {
	case r.learning <- struct{}{}:
		return func() { <-r.learning }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// replace accounts for something of weight now in place of what weighed *old.
func (r *room) replace(old *int64, now int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now > *old && r.kept-*old+now > maxKept {
		return fmt.Errorf("%w: the servers of all APIServices say too much", outbound.ErrTooLarge)
	}
	r.kept += now - *old
	*old = now
	return nil
}
