package cache_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// filled is a cache of n pods in ten namespaces.
func filled(b *testing.B, n, bytes int) (storage.Store, *cache.Cache, []storage.Op) {
	b.Helper()
	s := database(b)()
	var ops []storage.Op
	for i := range n {
		op := create(pod(fmt.Sprintf("namespace-%d", i%10), fmt.Sprintf("pod-%06d", i)), "")
		op.Data = make([]byte, bytes)
		ops = append(ops, op)
	}
	if n > 0 {
		commit(b, s, ops...)
	}
	return s, start(b, cache.Config{Store: s, Log: slog.New(slog.DiscardHandler)}), ops
}

// publisher makes commits up instead of asking a store for them, so that only the cache is measured.
type publisher struct {
	c    *cache.Cache
	keys []storage.Key
	revs []storage.Revision
	at   storage.Position
	data []byte
	i    int
	ops  []storage.Op
}

func newPublisher(b *testing.B, c *cache.Cache, keys []storage.Op) *publisher {
	p := &publisher{c: c, at: c.Position(), data: make([]byte, 1000)}
	for _, op := range keys {
		e, _ := c.Get(op.Key)
		p.keys = append(p.keys, op.Key)
		p.revs = append(p.revs, e.Revision)
	}
	return p
}

func (p *publisher) publish(n int) {
	p.ops = p.ops[:0]
	results := make([]storage.Result, 0, n)
	for range n {
		i := p.i % len(p.keys)
		p.i += 7
		p.ops = append(p.ops, update(p.keys[i], p.revs[i], ""))
		p.ops[len(p.ops)-1].Data = p.data
		p.revs[i] = p.at.Revision + storage.Revision(len(p.ops))
		results = append(results, storage.Result{Revision: p.revs[i]})
	}
	done := storage.Committed{Before: p.at, Head: p.at.Revision + storage.Revision(n), Results: results}
	p.c.Apply(p.ops, nil, done)
	p.at.Revision = done.Head
}

// BenchmarkPublish is one change a commit; watchers read what comes.
func BenchmarkPublish(b *testing.B) {
	for _, watchers := range []int{0, 100, 1000} {
		for _, sel := range []storage.Selector{{Resource: "pods"}, {Resource: "pods", Namespace: "namespace-1"}} {
			b.Run(fmt.Sprintf("watchers=%d/namespace=%t", watchers, sel.Namespace != ""), func(b *testing.B) {
				_, c, ops := filled(b, 5000, 1000)
				p := newPublisher(b, c, ops)
				ctx, cancel := context.WithCancel(b.Context())
				var wg sync.WaitGroup
				for range watchers {
					w, err := c.Watch(ctx, sel, p.at.Revision)
					if err != nil {
						b.Fatal(err)
					}
					wg.Go(func() {
						for {
							if _, err := w.Next(ctx); err != nil {
								return
							}
						}
					})
				}
				b.ReportAllocs()
				for b.Loop() {
					p.publish(1)
				}
				cancel()
				wg.Wait()
			})
		}
	}
}

// BenchmarkPublishBatch is commits of 32 changes; the time is for one change.
func BenchmarkPublishBatch(b *testing.B) {
	_, c, ops := filled(b, 5000, 1000)
	p := newPublisher(b, c, ops)
	b.ReportAllocs()
	for n := 0; n < b.N; n += 32 {
		p.publish(32)
	}
}

func BenchmarkGet(b *testing.B) {
	_, c, ops := filled(b, 5000, 1000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7) % len(ops)
		if e, _ := c.Get(ops[i].Key); e == nil {
			b.Fatal("absent")
		}
	}
}

// BenchmarkGetWhileWriting reads from all processors while one goroutine publishes without a pause.
func BenchmarkGetWhileWriting(b *testing.B) {
	_, c, ops := filled(b, 5000, 1000)
	p := newPublisher(b, c, ops)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				p.publish(8)
			}
		}
	})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i = (i + 7) % len(ops) {
			if e, _ := c.Get(ops[i].Key); e == nil {
				b.Error("absent")
			}
		}
	})
	close(stop)
	wg.Wait()
}

func BenchmarkScan5000(b *testing.B) {
	_, c, _ := filled(b, 5000, 1000)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		c.Snapshot("pods").Scan("", storage.Key{}, func(*cache.Entry) bool { n++; return true })
		if n != 5000 {
			b.Fatal(n)
		}
	}
}

func BenchmarkCount(b *testing.B) {
	_, c, _ := filled(b, 5000, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if n := c.Snapshot("pods").Count("namespace-3", pod("namespace-3", "pod-002503")); n != 249 {
			b.Fatal(n)
		}
	}
}

// BenchmarkSnapshotAt undoes 1,000 changes; the result is not kept between rounds.
func BenchmarkSnapshotAt(b *testing.B) {
	_, c, ops := filled(b, 5000, 1000)
	p := newPublisher(b, c, ops)
	p.publish(20_000)
	b.ReportAllocs()
	i := storage.Revision(0)
	for b.Loop() {
		i = (i + 1) % 100
		if _, err := c.SnapshotAt(b.Context(), "pods", p.at.Revision-1000-i); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDeliver is what one change costs one watcher that has some to read.
func BenchmarkDeliver(b *testing.B) {
	for _, sel := range []storage.Selector{{Resource: "pods"}, {Resource: "pods", Namespace: "namespace-1"}, {}} {
		b.Run(fmt.Sprintf("%+v", sel), func(b *testing.B) {
			_, c, ops := filled(b, 5000, 1000)
			p := newPublisher(b, c, ops)
			from := p.at.Revision
			for range 50 {
				p.publish(1000)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; {
				b.StopTimer()
				w, err := c.Watch(b.Context(), sel, from)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				for n < b.N {
					batch, err := w.Next(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					n += len(batch.Changes)
					if batch.Through == p.at.Revision {
						break
					}
				}
				b.StopTimer()
				w.Close()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkMemory reports what an object takes beyond its data.
func BenchmarkMemory(b *testing.B) {
	const n, bytes = 50_000, 1024
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		s, _, _ := filled(b, n, bytes)
		before := heap()
		c := start(b, cache.Config{Store: s, Log: slog.New(slog.DiscardHandler)})
		after := heap()
		// The memory store's data is shared with the cache, so the difference is the cache's own.
		b.ReportMetric(float64(after-before)/n, "B/object")
		runtime.KeepAlive(c)
	}
}

// BenchmarkIndexMemory tells what a posting takes.
func BenchmarkIndexMemory(b *testing.B) {
	const n = 50_000
	s := database(b)()
	var ops []storage.Op
	for i := range n {
		ops = append(ops, create(pod(fmt.Sprintf("namespace-%d", i%10), fmt.Sprintf("pod-%06d", i)), fmt.Sprintf("app=%d,tier=%d,all=yes x", i%1000, i%7)))
	}
	commit(b, s, ops...)
	c := start(b, cache.Config{Store: s, Log: slog.New(slog.DiscardHandler)})
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for b.Loop() {
		if !c.Snapshot("pods").Find("", storage.Key{}, termsIn, []cache.Choice{{Name: "app", Values: []string{"7"}}}, func(*cache.Entry) bool { return true }) {
			b.Fatal("no index")
		}
	}
	b.ReportMetric(float64(heap()-before)/n/3, "B/posting")
}
