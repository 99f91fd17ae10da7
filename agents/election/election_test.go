package election

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
)

func config(client *fake.Clientset, identity string) Config {
	return Config{
		Client: client, Namespace: "kube-system", Name: "scheduler", Identity: identity,
		LeaseDuration: 10 * time.Second, RenewDeadline: 7 * time.Second, RetryPeriod: 2 * time.Second,
	}
}

// TestOneAtATime: the second acts as soon as the first has stopped, and not before, however long that takes.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var acting, turns atomic.Int32
		lead := func(ctx context.Context) error {
			if n := acting.Add(1); n != 1 {
				t.Errorf("%d act", n)
			}
			turns.Add(1)
			<-ctx.Done()
			time.Sleep(5 * time.Second) // it stops slowly
			acting.Add(-1)
			return nil
		}
		first, stopFirst := context.WithCancel(t.Context())
		second, stopSecond := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- Run(first, config(client, "first"), lead) }()
		synctest.Wait()
		go func() { ended <- Run(second, config(client, "second"), lead) }()
		time.Sleep(time.Minute)
		if turns.Load() != 1 {
			t.Fatalf("%d had their turn", turns.Load())
		}
		stopFirst()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		time.Sleep(3 * time.Second) // a retry, with its jitter: the Lease was given back
		if acting.Load() != 1 || turns.Load() != 2 {
			t.Errorf("%d act, %d had their turn", acting.Load(), turns.Load())
		}
		stopSecond()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestLost: whoever cannot renew stops before the Lease is another's.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var away atomic.Bool
		client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away.Load(), nil, apierrors.NewInternalError(errors.New("the database is away"))
		})
		cfg := config(client, "first")
		var stopped time.Duration
		err := Run(t.Context(), cfg, func(ctx context.Context) error {
			time.Sleep(time.Minute)
			away.Store(true)
			since := time.Now()
			<-ctx.Done()
			stopped = time.Since(since)
			return nil
		})
		if !errors.Is(err, ErrLost) || stopped > cfg.LeaseDuration {
			t.Errorf("got %v after %s", err, stopped)
		}
	})
}

func TestEndsWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		go func() {
			_ = Run(t.Context(), config(client, "first"), func(ctx context.Context) error { <-ctx.Done(); return nil })
		}()
		synctest.Wait()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := Run(ctx, config(client, "second"), func(context.Context) error { t.Error("it acts"); return nil }); err != nil {
			t.Error(err)
		}
	})
}

type reached struct{ requests atomic.Int32 }

func (r *reached) RoundTrip(*http.Request) (*http.Response, error) {
	r.requests.Add(1)
	return nil, errors.New("reached")
}

func TestFence(t *testing.T) {
	t.Parallel()
	server := &reached{}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	client, err := rest.HTTPClientFor(Fence(ctx, &rest.Config{Host: "http://server", Transport: server}))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://server/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			t.Error("there is an answer")
		}
		stop()
	}
	if n := server.requests.Load(); n != 1 {
		t.Errorf("%d requests reached the server, want the one before the end", n)
	}
}
