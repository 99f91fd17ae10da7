package write

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// finish gives the outcome of a registry its meaning. Upstream calls registries on a goroutine of its own and stops waiting
// at the deadline. Ours waits: all that a write waits for (commits, the database, webhooks) ends with its context, and
// package filters answers in time for what would not. What failed when the time was up says so.
func finish(ctx context.Context, result runtime.Object, err error) (runtime.Object, error) {
	if err != nil {
		if ended := ctx.Err(); ended != nil {
			return nil, apierrors.NewTimeoutError(fmt.Sprintf("request did not complete within requested timeout - %s", ended), 0)
		}
		return nil, err
	}
	if status, ok := result.(*metav1.Status); ok && status.Status != metav1.StatusSuccess {
		return nil, apierrors.FromObject(status)
	}
	return result, nil
}
