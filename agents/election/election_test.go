package election

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
)

const (
	leaseDuration = 8 * time.Second
	renewDeadline = 5 * time.Second
	retryPeriod   = 2 * time.Second
)

var leases = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}

// newServer is an API server that knows conflicts, as the fake one does not.
func newServer(t *testing.T) *fake.Clientset {
	client := fake.NewClientset()
	var version atomic.Int64
	client.PrependReactor("create", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
		a.(clienttesting.CreateAction).GetObject().(*coordinationv1.Lease).ResourceVersion = strconv.FormatInt(version.Add(1), 10)
		return false, nil, nil
	})
	client.PrependReactor("update", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
		lease := a.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease)
		now, err := client.Tracker().Get(leases, lease.Namespace, lease.Name)
		if err != nil {
			return true, nil, err
		}
		if lease.ResourceVersion != now.(*coordinationv1.Lease).ResourceVersion {
			return true, nil, apierrors.NewConflict(leases.GroupResource(), lease.Name, errors.New("it was changed"))
		}
		lease.ResourceVersion = strconv.FormatInt(version.Add(1), 10)
		return false, nil, nil
	})
	return client
}

func config(t *testing.T, client *fake.Clientset, identity string) Config {
	return Config{
		Client: client, Informers: informers.NewSharedInformerFactory(client, 0),
		Namespace: "kube-system", Name: "scheduler", Identity: identity,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func current(t *testing.T, client *fake.Clientset) *coordinationv1.Lease {
	t.Helper()
	lease, err := client.CoordinationV1().Leases("kube-system").Get(t.Context(), "scheduler", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

// TestOneAtATime: the second acts as soon as the first has stopped, and not before, however long that takes.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newServer(t)
		var acting, turns atomic.Int32
		var began, ended time.Time
		lead := func(ctx context.Context, turn *Turn) error {
			if n := acting.Add(1); n != 1 {
				t.Errorf("%d act", n)
			}
			turns.Add(1)
			began = time.Now()
			<-ctx.Done()
			if turn.Over() == nil {
				t.Error("it is still its turn when it was told to stop")
			}
			time.Sleep(2 * leaseDuration) // it stops slowly
			acting.Add(-1)
			ended = time.Now()
			return nil
		}
		first, stopFirst := context.WithCancel(t.Context())
		second, stopSecond := context.WithCancel(t.Context())
		stopped := make(chan error, 2)
		go func() { stopped <- Run(first, config(t, client, "first"), lead) }()
		time.Sleep(time.Second)
		go func() { stopped <- Run(second, config(t, client, "second"), lead) }()
		time.Sleep(time.Minute)
		if turns.Load() != 1 {
			t.Fatalf("%d had their turn", turns.Load())
		}
		stopFirst()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if acting.Load() != 1 || turns.Load() != 2 || began != ended {
			t.Errorf("%d act, %d had their turn, the second %s after the first", acting.Load(), turns.Load(), began.Sub(ended))
		}
		stopSecond()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if lease := current(t, client); *lease.Spec.HolderIdentity != "" || *lease.Spec.LeaseTransitions != 1 {
			t.Errorf("the Lease is left as %+v", lease.Spec)
		}
	})
}

// TestKilled: another acts one Lease after the last renewal, and does not ask while it waits.
func TestKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newServer(t)
		killed := make(chan struct{})
		client.PrependReactor("update", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
			select {
			case <-killed:
				if *a.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease).Spec.HolderIdentity != "second" {
					return true, nil, errors.New("it does nothing any more")
				}
			default:
			}
			return false, nil, nil
		})
		wait := func(ctx context.Context, _ *Turn) error { <-ctx.Done(); return nil }
		go func() { _ = Run(t.Context(), config(t, client, "first"), wait) }()
		time.Sleep(time.Second)
		taken := make(chan time.Time, 1)
		go func() {
			_ = Run(t.Context(), config(t, client, "second"), func(ctx context.Context, _ *Turn) error {
				taken <- time.Now()
				return wait(ctx, nil)
			})
		}()
		time.Sleep(time.Minute + time.Second) // between two renewals
		last := current(t, client).Spec.RenewTime.Time
		client.ClearActions()
		close(killed)
		if after := (<-taken).Sub(last); after != leaseDuration {
			t.Errorf("another acted after %s", after)
		}
		var asked int
		for _, a := range client.Actions() {
			u, ok := a.(clienttesting.UpdateAction)
			if a.GetVerb() == "get" || ok && *u.GetObject().(*coordinationv1.Lease).Spec.HolderIdentity == "second" {
				asked++
			}
		}
		if asked != 1 {
			t.Errorf("%d requests: %v", asked, client.Actions())
		}
	})
}

// TestLost: whoever cannot renew stops before the Lease is another's.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newServer(t)
		var away atomic.Bool
		client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away.Load(), nil, apierrors.NewInternalError(errors.New("the database is away"))
		})
		var stopped time.Duration
		err := Run(t.Context(), config(t, client, "first"), func(ctx context.Context, turn *Turn) error {
			time.Sleep(time.Minute)
			away.Store(true)
			since := time.Now()
			<-ctx.Done()
			stopped = time.Since(since)
			if !errors.Is(turn.Over(), ErrLost) {
				t.Error(turn.Over())
			}
			return nil
		})
		if !errors.Is(err, ErrLost) || stopped > renewDeadline {
			t.Errorf("got %v after %s", err, stopped)
		}
	})
}

// TestAnsweredLate: a Lease that was written before the database went away is worth nothing when the answer comes, and is renewed
// before anybody acts; one whose answer never comes is taken again without waiting until it has run out.
func TestAnsweredLate(t *testing.T) {
	for name, tt := range map[string]struct {
		answer error
		after  time.Duration
	}{
		"answered": {nil, 2*leaseDuration + retryPeriod},
		"refused":  {errors.New("connection reset"), renewDeadline/2 + 2*retryPeriod},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := newServer(t)
				var first atomic.Bool
				client.PrependReactor("create", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
					lease := a.(clienttesting.CreateAction).GetObject().(*coordinationv1.Lease)
					if first.Swap(true) {
						return false, nil, nil
					}
					lease.ResourceVersion = "a"
					if err := client.Tracker().Create(leases, lease, lease.Namespace); err != nil {
						t.Error(err)
					}
					if tt.answer == nil {
						time.Sleep(2 * leaseDuration)
					} else {
						time.Sleep(renewDeadline / 2)
					}
					return true, lease, tt.answer
				})
				ctx, stop := context.WithCancel(t.Context())
				began := time.Now()
				if err := Run(ctx, config(t, client, "first"), func(leading context.Context, turn *Turn) error {
					if took := time.Since(began); took > tt.after {
						t.Errorf("it acts after %s, want %s", took, tt.after)
					}
					if err := turn.Over(); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Minute)
					if err := leading.Err(); err != nil {
						t.Error(err)
					}
					stop()
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestTaken: whoever finds the Lease taken, gone, or held by an earlier self stops with the next renewal; whoever finds that it
// was only written by somebody goes on.
func TestTaken(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*coordinationv1.Lease)
		lost   bool
	}{
		"taken":        {func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = ptr.To("second") }, true},
		"earlier self": {func(l *coordinationv1.Lease) { l.Spec.AcquireTime = ptr.To(metav1.NewMicroTime(time.Unix(1, 0))) }, true},
		"gone":         {nil, true},
		"labelled":     {func(l *coordinationv1.Lease) { l.Labels = map[string]string{"a": "b"} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := newServer(t)
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				err := Run(ctx, config(t, client, "first"), func(leading context.Context, _ *Turn) error {
					time.Sleep(time.Minute + time.Millisecond) // between two renewals
					api := client.CoordinationV1().Leases("kube-system")
					if tt.change == nil {
						if err := api.Delete(ctx, "scheduler", metav1.DeleteOptions{}); err != nil {
							t.Error(err)
						}
					} else {
						lease := current(t, client)
						tt.change(lease)
						if _, err := api.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
							t.Error(err)
						}
					}
					select {
					case <-leading.Done():
					case <-time.After(retryPeriod + time.Millisecond):
					}
					if lost := leading.Err() != nil; lost != tt.lost {
						t.Errorf("lost: %v", lost)
					}
					stop()
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if name == "taken" && *current(t, client).Spec.HolderIdentity != "second" {
					t.Error("another's Lease was given back")
				}
			})
		})
	}
}

// TestStoodStill: the clock ends a turn for a process that has not heard so.
func TestStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := &Turn{ctx: t.Context()}
		turn.extend(time.Now().Add(leaseDuration))
		time.Sleep(leaseDuration - time.Nanosecond)
		if err := turn.Over(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Nanosecond)
		if err := turn.Over(); !errors.Is(err, errRanOut) {
			t.Error(err)
		}
	})
}

// TestWithUpstream: client-go's elector waits for ours to give back, and ours for its, as long as that has said.
func TestWithUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newServer(t)
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "scheduler"}, Client: client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: "upstream"},
			},
			LeaseDuration: 30 * time.Second, RenewDeadline: 20 * time.Second, RetryPeriod: retryPeriod,
			Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			_ = Run(ctx, config(t, client, "ours"), func(ctx context.Context, _ *Turn) error { <-ctx.Done(); return nil })
		}()
		time.Sleep(time.Second)
		theirs, end := context.WithCancel(t.Context())
		go elector.Run(theirs)
		time.Sleep(time.Minute)
		if elector.IsLeader() {
			t.Fatal("upstream's took a Lease that is renewed")
		}
		stop()
		time.Sleep(3 * retryPeriod)
		if !elector.IsLeader() {
			t.Fatal("upstream's did not take a Lease that was given back")
		}
		time.Sleep(time.Minute)
		end() // without giving it back
		stopped := time.Now()
		again, stopAgain := context.WithCancel(t.Context())
		defer stopAgain()
		err = Run(again, config(t, client, "ours"), func(context.Context, *Turn) error {
			if after := time.Since(stopped); after < 30*time.Second || after > 31*time.Second {
				t.Errorf("it was taken after %s", after)
			}
			stopAgain()
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestEndsWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newServer(t)
		go func() {
			_ = Run(t.Context(), config(t, client, "first"), func(ctx context.Context, _ *Turn) error { <-ctx.Done(); return nil })
		}()
		time.Sleep(time.Second)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := Run(ctx, config(t, client, "second"), func(context.Context, *Turn) error { t.Error("it acts"); return nil }); err != nil {
			t.Error(err)
		}
	})
}
