// Package pause lets time pass between two tries.
package pause

import (
	"context"
	"time"
)

// For waits for d, and tells whether it has passed before ctx ended.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
