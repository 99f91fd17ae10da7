package adapter

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"

	"github.com/rowlock-io/rowlock/storage"
)

var busy = storage.Key{Resource: "configmaps", Namespace: "ns", Name: "busy"}

// losers begins to wait, one after the other, and tells in which order they go on.
func losers(ctx context.Context, turns *turns, n int) (order func() []int) {
	var mu sync.Mutex
	var on []int
	for i := range n {
		go func() {
			turns.lost(ctx, busy)
			mu.Lock()
			defer mu.Unlock()
			on = append(on, i)
		}()
		synctest.Wait()
	}
	return func() []int {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(on)
	}
}

func expect(t *testing.T, what string, got []int, want ...int) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{}
		order := losers(t.Context(), turns, 5)
		expect(t, "who goes on at once", order(), 0)
		turns.written(storage.Key{Resource: "configmaps", Namespace: "ns", Name: "other"})
		expect(t, "another key was written", order(), 0)
		turns.written(busy)
		expect(t, "it was written", order(), 0, 1)
		time.Sleep(patience / 2)
		begin := time.Now()
		turns.written(busy)
		if lead := time.Since(begin); lead <= 0 || lead > longestLead {
			t.Errorf("who succeeded heard of it %v after the next one's turn", lead)
		}
		expect(t, "it was written", order(), 0, 1, 2)
		time.Sleep(patience - time.Since(begin) - time.Nanosecond)
		expect(t, "just before the turn is over", order(), 0, 1, 2)
		time.Sleep(time.Nanosecond)
		expect(t, "the turn was not used", order(), 0, 1, 2, 3)
		turns.written(busy)
		expect(t, "it was written", order(), 0, 1, 2, 3, 4)
		turns.written(busy)
		if len(turns.keys) != 0 || turns.contests.Load() != 0 || turns.waiting != 0 {
			t.Errorf("afterwards %+v is left", turns)
		}
		expect(t, "a new contest", losers(t.Context(), turns, 1)(), 0)
		time.Sleep(patience)
		synctest.Wait()
		if len(turns.keys) != 0 {
			t.Error("a contest that nobody takes part in any more was not forgotten")
		}
	})
}

func TestTurnsEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		then func(turns *turns, cancel func())
	}{
		{"deleted", func(turns *turns, _ func()) { turns.deleted(busy) }},
		{"callers left", func(_ *turns, cancel func()) { cancel() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				turns := &turns{}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				order := losers(ctx, turns, 4)
				expect(t, "before", order(), 0)
				tt.then(turns, cancel)
				if got := order(); len(got) != 4 || turns.waiting != 0 {
					t.Errorf("%v went on, %d still wait", got, turns.waiting)
				}
				time.Sleep(patience)
				synctest.Wait()
				if len(turns.keys) != 0 {
					t.Error("the contest was not forgotten")
				}
			})
		})
	}
}

// TestTurnsAreBounded: nobody waits longer than longestWait, and no more than maxWaiting do.
func TestTurnsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{}
		order := losers(t.Context(), turns, 1+maxWaiting+1)
		expect(t, "who goes on at once", order(), 0, maxWaiting+1)
		begin := time.Now()
		for len(order()) < 1+maxWaiting+1 {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(begin); took > longestWait {
			t.Errorf("the last one waited for %v", took)
		}
	})
}

func TestIsStale(t *testing.T) {
	t.Parallel()
	maps := schema.GroupResource{Resource: "configmaps"}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{apierrors.NewConflict(maps, "a", errors.New(genericregistry.OptimisticLockErrorMsg)), true},
		{apierrors.NewApplyConflict(nil, "Apply failed with 1 conflict"), false},
		{apierrors.NewForbidden(maps, "a", errors.New(genericregistry.OptimisticLockErrorMsg)), false},
		{errors.New(genericregistry.OptimisticLockErrorMsg), false},
	} {
		if got := isStale(tt.err); got != tt.want {
			t.Errorf("isStale(%v) = %v", tt.err, got)
		}
	}
}
