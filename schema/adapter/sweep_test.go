package adapter_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
	"github.com/rowlock-io/rowlock/storage/commit"
	"github.com/rowlock-io/rowlock/storage/memory"
)

const eventTTL = time.Hour

// counted counts what a sweeper could ask of the database.
type counted struct {
	storage.Store
	horizons, commits atomic.Int64
}

func (c *counted) Horizon(ctx context.Context, maxAge time.Duration, maxBytes int64) (storage.Revision, error) {
	c.horizons.Add(1)
	return c.Store.Horizon(ctx, maxAge, maxBytes)
}

func (c *counted) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	c.commits.Add(1)
	return c.Store.Commit(ctx, ops)
}

// sweepWorld is a database with replicas that come and go, in a synctest bubble.
type sweepWorld struct {
	t     *testing.T
	db    *memory.Database
	codec *object.Codec
}

type replica struct {
	*adapter.Store
	counts *counted
	stop   func()
}

func newSweepWorld(t *testing.T) *sweepWorld {
	t.Helper()
	db := memory.New()
	if err := db.CreateCluster(t.Context(), clusterName); err != nil {
		t.Fatal(err)
	}
	cfg := exampleConfig()
	cfg.TTL = eventTTL
	return &sweepWorld{t: t, db: db, codec: object.NewCodec(cfg)}
}

func (w *sweepWorld) start() *replica {
	w.t.Helper()
	store, err := w.db.OpenCluster(w.t.Context(), clusterName)
	if err != nil {
		w.t.Fatal(err)
	}
	r := &replica{counts: &counted{Store: store}}
	ctx, cancel := context.WithCancel(context.Background())
	c := cache.New(cache.Config{Store: r.counts})
	b := adapter.Backend{Store: r.counts, Cache: c, Committer: commit.New(r.counts, commit.Config{Applied: c.Apply})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	wg.Go(func() { _ = b.Committer.Run(ctx) })
	<-c.Ready()
	wg.Go(func() { _ = adapter.NewSweeper(b, nil, w.codec).Run(ctx) })
	synctest.Wait() // the sweeper has looked at what there is
	r.Store = adapter.New(b, w.codec, "/pods")
	r.stop = func() {
		cancel()
		wg.Wait()
		_ = store.Close()
	}
	return r
}

func (r *replica) has(t *testing.T, name string) bool {
	t.Helper()
	err := r.Get(t.Context(), "/pods/ns/"+name, apistorage.GetOptions{}, &example.Pod{})
	if err != nil && !apistorage.IsNotFound(err) {
		t.Fatal(err)
	}
	return err == nil
}

// late is how much longer than its TTL an object may live.
const late = eventTTL / 10

func TestSweep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSweepWorld(t)
		a, b := w.start(), w.start()
		defer a.stop()
		defer b.stop()
		for i := range 1200 { // more than a batch
			mustCreate(t, a, newPod("ns", fmt.Sprint("old", i)))
		}
		kept := mustCreate(t, a, newPod("ns", "kept"))
		time.Sleep(eventTTL / 2)
		n := 0
		if err := b.GuaranteedUpdate(t.Context(), podKey(kept), &example.Pod{}, false, nil, touch(&n), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(eventTTL/2 - time.Second)
		if !a.has(t, "old0") || !a.has(t, "old1199") {
			t.Error("an object expired before its time")
		}
		time.Sleep(late)
		for i := range 1200 {
			if a.has(t, fmt.Sprint("old", i)) {
				t.Fatalf("old%d did not expire", i)
			}
		}
		if !b.has(t, "kept") {
			t.Error("an object expired that was updated")
		}
		time.Sleep(eventTTL / 2)
		if b.has(t, "kept") {
			t.Error("the updated object did not expire")
		}
	})
}

// TestSweepIdle has no query and no write come from an idle control plane, with objects that wait for their time and
// without any.
func TestSweepIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSweepWorld(t)
		a := w.start()
		defer a.stop()
		mustCreate(t, a, newPod("ns", "a"))
		time.Sleep(time.Minute)
		commits := a.counts.commits.Load()
		time.Sleep(eventTTL - 2*time.Minute)
		if n := a.counts.horizons.Load(); n != 0 {
			t.Errorf("%d queries", n)
		}
		if n := a.counts.commits.Load(); n != commits {
			t.Errorf("%d commits before anything expired", n-commits)
		}
		time.Sleep(2*time.Minute + late)
		commits = a.counts.commits.Load()
		time.Sleep(10 * eventTTL)
		mustCreate(t, a, newPod("ns", "b"))
		b := w.start()
		defer b.stop()
		asked := b.counts.horizons.Load()
		time.Sleep(eventTTL / 2)
		if n := b.counts.horizons.Load(); asked == 0 || n != asked {
			t.Errorf("%d queries at the start of a replica, %d later", asked, n-asked)
		}
		commits++ // the creation
		if n := a.counts.commits.Load(); n != commits {
			t.Errorf("%d commits without objects", n-commits)
		}
		if n := a.counts.horizons.Load(); n != 0 {
			t.Errorf("%d queries", n)
		}
	})
}

// TestSweepRestart restarts the server more often than objects expire: they still do, neither late nor early.
func TestSweepRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSweepWorld(t)
		r := w.start()
		mustCreate(t, r, newPod("ns", "a"))
		for range 5 {
			r.stop()
			time.Sleep(eventTTL / 10)
			r = w.start()
			time.Sleep(eventTTL / 12)
		}
		if !r.has(t, "a") {
			t.Fatal("expired before its time")
		}
		mustCreate(t, r, newPod("ns", "b"))
		r.stop()
		time.Sleep(eventTTL / 12)
		r = w.start()
		defer func() { r.stop() }()
		time.Sleep(late)
		if r.has(t, "a") {
			t.Error("did not expire")
		}
		if !r.has(t, "b") {
			t.Error("b expired before its time")
		}
	})
}

// TestSweepCompacted keeps an object whose age the log does not know any more until this process is old enough.
func TestSweepCompacted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSweepWorld(t)
		r := w.start()
		pod := mustCreate(t, r, newPod("ns", "a"))
		rev, err := r.Versioner().ParseResourceVersion(pod.ResourceVersion)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.counts.Compact(t.Context(), storage.Revision(rev)); err != nil {
			t.Fatal(err)
		}
		r.stop()
		time.Sleep(time.Minute)
		r = w.start()
		defer func() { r.stop() }()
		time.Sleep(eventTTL - 2*time.Minute)
		if !r.has(t, "a") {
			t.Error("expired before its time")
		}
		time.Sleep(2*time.Minute + late)
		if r.has(t, "a") {
			t.Error("did not expire")
		}
	})
}
