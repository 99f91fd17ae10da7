package node

import (
	"context"
)

// serve is the node's own API.
func (a *Agent) serve(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
