// Package election has one of several processes act, by a Lease that they find in the cluster's API.
package election

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Config says what is elected for, and how fast another is found. The names are upstream's: two kinds of servers of one
// cluster stand for the same election.
type Config struct {
	Client          kubernetes.Interface
	Namespace, Name string // of the Lease
	Identity        string // of this process, unlike any other's
	// LeaseDuration is after how long without a word another takes over; RenewDeadline how long the holder tries to say it,
	// less than that; RetryPeriod how often everybody tries.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
}

// ErrLost: the Lease could not be renewed in time. Somebody else may act now.
var ErrLost = errors.New("the lease was lost")

// Run waits until it is this process's turn and calls lead with a context that ends when it no longer is, or when ctx ends. The
// Lease is given back only when lead has returned: nobody else acts before. It returns nil when ctx has ended, ErrLost or what
// lead returned otherwise; call it again to stand again.
func Run(ctx context.Context, cfg Config, lead func(context.Context) error) error {
	electing, resign := context.WithCancel(context.WithoutCancel(ctx))
	defer resign()
	elected := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: cfg.Name}, Client: cfg.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: cfg.Identity},
		},
		LeaseDuration: cfg.LeaseDuration, RenewDeadline: cfg.RenewDeadline, RetryPeriod: cfg.RetryPeriod,
		ReleaseOnCancel: true, Name: cfg.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) { elected <- leading },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("election of %s/%s: %w", cfg.Namespace, cfg.Name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		elector.Run(electing)
	}()
	var leading context.Context
	select {
	case leading = <-elected:
	case <-ctx.Done():
		resign()
		<-ended
		return nil
	}
	leading, stop := context.WithCancel(leading)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	err = lead(leading)
	lost := leading.Err() != nil && ctx.Err() == nil
	resign()
	<-ended
	switch {
	case ctx.Err() != nil:
		return nil
	case lost:
		return errors.Join(ErrLost, err)
	}
	return err
}

// Fence refuses the requests of a configuration's clients once ctx has ended: what did not stop in time when it was no
// longer its turn does nothing.
func Fence(ctx context.Context, config *rest.Config) *rest.Config {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return fenced{ctx, next} })
	return config
}

type fenced struct {
	turn context.Context //nolint:containedctx // whose end it is about
	next http.RoundTripper
}

func (f fenced) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := f.turn.Err(); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, fmt.Errorf("no longer its turn: %w", err)
	}
	return f.next.RoundTrip(req)
}
