package retention

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// counting counts what a keeper asks of a store, and fails on demand.
type counting struct {
	storage.Store
	mu                       sync.Mutex
	horizons, floors, writes int
	fail                     error

	told atomic.Uint64 // the floor
}

func (s *counting) count(n *int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
	return s.fail
}

func (s *counting) Horizon(ctx context.Context, age time.Duration, bytes int64) (storage.Revision, error) {
	if err := s.count(&s.horizons); err != nil {
		return 0, err
	}
	return s.Store.Horizon(ctx, age, bytes)
}

func (s *counting) Floor(ctx context.Context) (storage.Revision, error) {
	if err := s.count(&s.floors); err != nil {
		return 0, err
	}
	return s.Store.Floor(ctx)
}

func (s *counting) Compact(ctx context.Context, through storage.Revision) error {
	if err := s.count(&s.writes); err != nil {
		return err
	}
	return s.Store.Compact(ctx, through)
}

func (s *counting) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *counting) counts() (horizons, floors, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.horizons, s.floors, s.writes
}

func open(t *testing.T, replicas int) []*counting {
	t.Helper()
	db := memory.New()
	if err := db.CreateCluster(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	var stores []*counting
	for range replicas {
		s, err := db.OpenCluster(t.Context(), "c")
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, &counting{Store: s})
	}
	return stores
}

func write(t *testing.T, s storage.Store, n int) storage.Revision {
	t.Helper()
	var head storage.Revision
	for range n {
		at, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done, err := s.Commit(t.Context(), []storage.Op{{
			Key:  storage.Key{Resource: "pods", Namespace: "a", Name: fmt.Sprintf("p%d", at.Revision)},
			Verb: storage.Create, Data: make([]byte, 100),
		}})
		if err != nil {
			t.Fatal(err)
		}
		head = done.Head
	}
	return head
}

// run starts Run on each store and returns what ends them.
func run(t *testing.T, cfg Config, stores ...*counting) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, s := range stores {
		cfg := cfg
		cfg.Store = s
		cfg.Floor = func(at storage.Revision) { s.told.Store(uint64(at)) }
		wg.Go(func() {
			if err := Run(ctx, cfg); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

func floorOf(t *testing.T, s storage.Store) storage.Revision {
	t.Helper()
	f, err := s.Floor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stores := open(t, 3)
		defer run(t, Config{}, stores...)()
		before := floorOf(t, stores[0].Store)
		old := write(t, stores[0].Store, 10)
		time.Sleep(23 * time.Hour)
		write(t, stores[0].Store, 5)
		if got := floorOf(t, stores[0].Store); got != before {
			t.Fatalf("floor after 23 h is %d, want %d", got, before)
		}
		time.Sleep(90 * time.Minute)
		if got := floorOf(t, stores[0].Store); got != old {
			t.Errorf("floor after 24.5 h is %d, want %d", got, old)
		}
		var writes int
		for _, s := range stores {
			_, _, n := s.counts()
			writes += n
			if told := s.told.Load(); told != uint64(old) {
				t.Errorf("a replica was told that the floor is %d, want %d", told, old)
			}
		}
		if writes < 1 || writes > len(stores) {
			t.Errorf("%d compactions by %d replicas, want one, or one each", writes, len(stores))
		}
	})
}

func TestBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stores := open(t, 1)
		defer run(t, Config{MaxAge: -1, MaxBytes: 500}, stores...)()
		head := write(t, stores[0].Store, 20)
		time.Sleep(2 * time.Minute)
		if got := floorOf(t, stores[0].Store); got <= head-10 || got >= head {
			t.Errorf("floor is %d of %d, want the last few kept", got, head)
		}
	})
}

func TestIdleOnlyLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stores := open(t, 1)
		defer run(t, Config{}, stores...)()
		write(t, stores[0].Store, 3)
		time.Sleep(25 * time.Hour)
		h0, f0, w0 := stores[0].counts()
		if w0 != 1 {
			t.Fatalf("%d compactions, want 1", w0)
		}
		time.Sleep(10 * time.Hour)
		h, f, w := stores[0].counts()
		if f != f0 || w != w0 {
			t.Errorf("idle: %d more questions for the floor and %d writes, want none", f-f0, w-w0)
		}
		if n := h - h0; n < 500 || n > 600 {
			t.Errorf("idle: %d looks in 600 minutes", n)
		}
	})
}

func TestNoBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stores := open(t, 1)
		stop := run(t, Config{MaxAge: -1}, stores...)
		time.Sleep(time.Hour)
		stop()
		if h, _, _ := stores[0].counts(); h != 0 {
			t.Errorf("%d looks without a bound to keep", h)
		}
	})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stores := open(t, 1)
		m, err := NewMetrics(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		stores[0].setFail(fmt.Errorf("away: %w", storage.ErrBusy))
		stop := run(t, Config{Metrics: m, MaxAge: time.Hour}, stores...)
		defer stop()
		head := write(t, stores[0].Store, 3)
		time.Sleep(2 * time.Hour)
		if n := testutil.ToFloat64(m.compactions.WithLabelValues("failed")); n < 60 {
			t.Errorf("%v failures counted in two hours", n)
		}
		stores[0].setFail(nil)
		time.Sleep(2 * time.Minute)
		if got := floorOf(t, stores[0].Store); got != head {
			t.Errorf("floor is %d when the database is back, want %d", got, head)
		}
		if n := testutil.ToFloat64(m.compactions.WithLabelValues("done")); n != 1 {
			t.Errorf("%v compactions counted, want 1", n)
		}
	})
}

func TestStoreClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stores := open(t, 1)
		if err := stores[0].Close(); err != nil {
			t.Fatal(err)
		}
		if err := Run(t.Context(), Config{Store: stores[0]}); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Run on a closed store: %v", err)
		}
	})
}
