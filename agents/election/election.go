// Package election has one of several processes act, by a Lease that they find in the cluster's API.
//
// The Lease means what it means to client-go's leaderelection, so that upstream's components stand for the same election. It is
// not used here because of what it does in a process that stays: it asks for the Lease again and again while it waits, and one
// that stood still for a while goes on acting for as long as it may try to renew, although another acts by then.
//
// What is promised: a Turn ends no later than the Lease that it was had by, by this process's clock; whoever waits sees at once
// that the Lease was given back; and it is taken from nobody who has renewed it, since it is taken by a write that is
// conditional on what was last seen.
package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

// Config says what is elected for, and how fast another is found.
type Config struct {
	Client kubernetes.Interface
	// Informers show the Lease. They are the election's own: started and stopped with it.
	Informers       informers.SharedInformerFactory
	Namespace, Name string // of the Lease
	Identity        string // of this process, unlike any other's
	// LeaseDuration is after how long without a word another takes over; RenewDeadline how long the holder tries to say it,
	// less than that; RetryPeriod how often it does.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
	Log                                       *slog.Logger
}

// ErrLost: the Lease could not be renewed in time, or is another's. Somebody else may act now.
var ErrLost = errors.New("the lease was lost")

// Run waits until it is this process's turn and calls lead with a context that ends when it no longer is, or when ctx ends. The
// Lease is given back only when lead has returned: nobody else acts before. It returns nil when ctx has ended, ErrLost or what
// lead returned otherwise; call it again to stand again.
func Run(ctx context.Context, cfg Config, lead func(context.Context, *Turn) error) error {
	leases := cfg.Informers.Coordination().V1().Leases()
	e := &elector{cfg: cfg, leases: cfg.Client.CoordinationV1().Leases(cfg.Namespace), changed: make(chan struct{}, 1)}
	e.seen = func() *coordinationv1.Lease {
		lease, err := leases.Lister().Leases(cfg.Namespace).Get(cfg.Name)
		if err != nil {
			return nil // only that it is not there is an error
		}
		return lease
	}
	heard, err := leases.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: e.wake, UpdateFunc: func(_, obj any) { e.wake(obj) }, DeleteFunc: e.wake,
	})
	if err != nil {
		return fmt.Errorf("election of %s/%s: %w", cfg.Namespace, cfg.Name, err)
	}
	informing, stop := context.WithCancel(context.WithoutCancel(ctx))
	cfg.Informers.Start(informing.Done())
	defer cfg.Informers.Shutdown()
	defer stop()
	if !cache.WaitForCacheSync(ctx.Done(), heard.HasSynced) {
		return nil
	}
	lease, sent := e.take(ctx)
	if lease == nil {
		return nil
	}
	return e.hold(ctx, lease, sent, lead)
}

type elector struct {
	cfg     Config
	leases  coordinationclient.LeaseInterface
	seen    func() *coordinationv1.Lease // the Lease as last seen; nil: there is none
	changed chan struct{}                // of one: look again
}

func (e *elector) wake(any) {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// take waits until the Lease is free and takes it; nil: ctx has ended. sent is from when on it is had.
func (e *elector) take(ctx context.Context) (lease *coordinationv1.Lease, sent time.Time) {
	var version string // that was seen
	var since time.Time
	began := time.Now()
	for ctx.Err() == nil {
		current, now := e.seen(), time.Now()
		var after time.Duration
		if holder(current) != "" && !e.since(began, current) { // what it has taken itself, and not heard so, it may take again
			if current.ResourceVersion != version {
				version, since = current.ResourceVersion, now
			}
			// Its own time, which a holder elsewhere may have chosen.
			after = time.Duration(ptr.Deref(current.Spec.LeaseDurationSeconds, 0)) * time.Second
			if after <= 0 {
				after = e.cfg.LeaseDuration
			}
			after -= now.Sub(since)
		}
		if after <= 0 {
			taken, sent, err := e.try(ctx, current)
			if err == nil {
				return taken, sent
			}
			e.cfg.Log.Debug("Lease was not to be had", "lease", e.cfg.Name, "err", err)
			after = wait.Jitter(e.cfg.RetryPeriod, 0.2)
		}
		select {
		case <-time.After(after):
		case <-e.changed:
		case <-ctx.Done():
		}
	}
	return nil, time.Time{}
}

// try takes the Lease if it is still as it was seen. What a database that was away answers late is worth nothing: the Lease
// may have run out by then, and is renewed before anybody acts by it.
func (e *elector) try(ctx context.Context, seen *coordinationv1.Lease) (lease *coordinationv1.Lease, sent time.Time, err error) {
	prompt := e.cfg.RenewDeadline / 2
	for {
		sent = time.Now()
		attempt, cancel := context.WithTimeout(ctx, prompt)
		lease, err = e.write(attempt, seen, sent)
		cancel()
		if err != nil || time.Since(sent) < prompt {
			return lease, sent, err
		}
		seen = lease
	}
}

// since tells whether the Lease is this process's since began, or later.
func (e *elector) since(began time.Time, lease *coordinationv1.Lease) bool {
	return holder(lease) == e.cfg.Identity && lease.Spec.AcquireTime != nil && !lease.Spec.AcquireTime.Time.Before(began.Truncate(time.Microsecond))
}

// write makes the Lease this process's, if it is still as it was seen.
func (e *elector) write(ctx context.Context, seen *coordinationv1.Lease, now time.Time) (*coordinationv1.Lease, error) {
	at := metav1.NewMicroTime(now)
	spec := coordinationv1.LeaseSpec{
		HolderIdentity: &e.cfg.Identity, LeaseDurationSeconds: ptr.To(int32(e.cfg.LeaseDuration.Round(time.Second).Seconds())),
		AcquireTime: &at, RenewTime: &at, LeaseTransitions: ptr.To[int32](0),
	}
	if seen == nil {
		meta := metav1.ObjectMeta{Namespace: e.cfg.Namespace, Name: e.cfg.Name}
		return e.leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: meta, Spec: spec}, metav1.CreateOptions{})
	}
	spec.LeaseTransitions = ptr.To(ptr.Deref(seen.Spec.LeaseTransitions, 0) + 1)
	return e.update(ctx, seen, spec)
}

func (e *elector) update(ctx context.Context, seen *coordinationv1.Lease, spec coordinationv1.LeaseSpec) (*coordinationv1.Lease, error) {
	lease := *seen
	lease.Spec = spec
	return e.leases.Update(ctx, &lease, metav1.UpdateOptions{})
}

// hold is the turn: lead acts, and the Lease is renewed until it has returned.
func (e *elector) hold(ctx context.Context, lease *coordinationv1.Lease, sent time.Time, lead func(context.Context, *Turn) error) error {
	turn := &Turn{}
	turn.extend(sent.Add(e.cfg.LeaseDuration))
	leading, end := context.WithCancelCause(ctx)
	defer end(nil)
	turn.ctx = leading
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		if lease = e.renew(renewing, turn, lease, sent); lease == nil {
			end(ErrLost)
		}
	}()
	err := lead(leading, turn)
	end(nil)
	stop()
	<-renewed
	if lease != nil {
		e.giveBack(ctx, lease)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case lease == nil:
		return errors.Join(ErrLost, err)
	}
	return err
}

// renew keeps the Lease until ctx ends, and returns it as it is then; nil: it was lost.
func (e *elector) renew(ctx context.Context, turn *Turn, lease *coordinationv1.Lease, last time.Time) *coordinationv1.Lease {
	for after := max(0, e.cfg.RetryPeriod-time.Since(last)); ; {
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return lease
		}
		now := time.Now()
		left := e.cfg.RenewDeadline - now.Sub(last)
		if left <= 0 {
			return nil
		}
		attempt, cancel := context.WithTimeout(ctx, left)
		spec := lease.Spec
		spec.RenewTime = ptr.To(metav1.NewMicroTime(now))
		updated, err := e.update(attempt, lease, spec)
		if apierrors.IsConflict(err) { // somebody else wrote it, or this process did and has not heard so
			if updated, err = e.ours(attempt, lease); err == nil && updated != nil {
				lease, after = updated, 0
				cancel()
				continue
			}
		}
		cancel()
		switch {
		case err == nil && updated == nil, apierrors.IsNotFound(err):
			return nil
		case err == nil:
			lease, last, after = updated, now, e.cfg.RetryPeriod
			turn.extend(now.Add(e.cfg.LeaseDuration))
		case ctx.Err() == nil:
			e.cfg.Log.Debug("Lease was not renewed", "lease", e.cfg.Name, "err", err)
			after = min(e.cfg.RetryPeriod/4, max(0, e.cfg.RenewDeadline-time.Since(last)))
		}
	}
}

// ours returns the Lease as it is now, when it is still from the same turn as the one that was held; nil: it is not. A
// database that forgot its last moments may show this process an earlier turn of its own.
func (e *elector) ours(ctx context.Context, held *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	now, err := e.leases.Get(ctx, e.cfg.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if holder(now) != e.cfg.Identity || now.UID != held.UID || !now.Spec.AcquireTime.Equal(held.Spec.AcquireTime) {
		return nil, nil //nolint:nilnil // it is no error that another holds it
	}
	return now, nil
}

// giveBackTimeout bounds how long the end of a turn is held up by a database that is away.
const giveBackTimeout = 2 * time.Second

// giveBack lets another act at once.
func (e *elector) giveBack(ctx context.Context, lease *coordinationv1.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTimeout)
	defer cancel()
	spec := lease.Spec
	spec.HolderIdentity, spec.LeaseDurationSeconds = ptr.To(""), ptr.To[int32](1)
	spec.RenewTime = ptr.To(metav1.NowMicro())
	_, err := e.update(ctx, lease, spec)
	if apierrors.IsConflict(err) {
		if lease, err = e.ours(ctx, lease); err == nil && lease != nil {
			_, err = e.update(ctx, lease, spec)
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		e.cfg.Log.Warn("Lease was not given back, so that others wait until it has run out", "lease", e.cfg.Name, "err", err)
	}
}

func holder(lease *coordinationv1.Lease) string {
	if lease == nil {
		return ""
	}
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}
