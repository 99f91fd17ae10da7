package storagetest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/commit"
)

func benchmarks() []benchmark {
	return []benchmark{
		{"create/1", func(b *testing.B, be Backend) { benchCreate(b, be, 1) }},
		{"create/64", func(b *testing.B, be Backend) { benchCreate(b, be, 64) }},
		{"update/1", func(b *testing.B, be Backend) { benchUpdate(b, be, 1, false) }},
		{"update/64", func(b *testing.B, be Backend) { benchUpdate(b, be, 64, false) }},
		{"relaxed/1", func(b *testing.B, be Backend) { benchUpdate(b, be, 1, true) }},
		{"group/64", benchGroup},
		{"get", benchGet},
		{"list/5000", benchList},
		{"past/5000", benchPast},
		{"changes/1000", benchChanges},
		{"head", benchHead},
	}
}

// benchData returns 1 KiB of JSON.
func benchData() string { return `{"kind":"Pod","x":"` + strings.Repeat("x", 1024-21) + `"}` }

// opsPerSecond reports what one batch stands for.
func opsPerSecond(b *testing.B, batch int) {
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "ops/s")
}

func benchCreate(b *testing.B, be Backend, batch int) {
	s := be.Open(b)
	n, data := 0, benchData()
	for b.Loop() {
		ops := make([]storage.Op, batch)
		for i := range ops {
			n++
			// Not in key order, as names with random suffixes are not.
			ops[i] = create(pod("default", fmt.Sprintf("%08x", uint32(n)*2654435761)), data)
		}
		mustCommit(b, s, ops...)
	}
	opsPerSecond(b, batch)
}

func benchUpdate(b *testing.B, be Backend, batch int, relaxed bool) {
	s := be.Open(b)
	ops := fill(b, s, 5000)
	for i := range ops {
		ops[i].Verb, ops[i].Relaxed = storage.Update, relaxed
	}
	at := 0
	b.ResetTimer()
	for b.Loop() {
		if at+batch > len(ops) {
			at = 0
		}
		some := ops[at : at+batch]
		at += batch
		for i, r := range mustCommit(b, s, some...).Results {
			some[i].Expect = r.Revision
		}
	}
	opsPerSecond(b, batch)
}

// fill makes n objects and returns the ops, each expecting what it made.
func fill(b *testing.B, s storage.Store, n int) []storage.Op {
	b.Helper()
	ops, data := make([]storage.Op, n), benchData()
	for i := range ops {
		ops[i] = create(pod(fmt.Sprintf("ns-%d", i%20), fmt.Sprintf("pod-%d", i)), data)
	}
	for at := 0; at < n; at += 500 {
		chunk := ops[at:min(at+500, n)]
		done := mustCommit(b, s, chunk...)
		for i, r := range done.Results {
			chunk[i].Expect = r.Revision
		}
	}
	return ops
}

// benchGroup is what 64 callers of a replica get through storage/commit, one object each.
func benchGroup(b *testing.B, be Backend) {
	s := be.Open(b)
	data := benchData()
	c := commit.New(s, commit.Config{})
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) }) // it returns nil always
	var writers atomic.Int64
	b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		op := create(pod("default", fmt.Sprintf("writer-%d", writers.Add(1))), data)
		for pb.Next() {
			r, err := c.Commit(ctx, op, nil)
			if err != nil {
				b.Error(err)
				return
			}
			op.Verb, op.Expect = storage.Update, r.Revision
		}
	})
	opsPerSecond(b, 1)
	stop()
	running.Wait()
}

func benchGet(b *testing.B, be Backend) {
	s := be.Open(b)
	ops := fill(b, s, 5000)
	n := 0
	for b.Loop() {
		n++
		if _, err := s.Get(b.Context(), ops[n*7%len(ops)].Key, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func benchList(b *testing.B, be Backend) {
	s := be.Open(b)
	fill(b, s, 5000)
	for b.Loop() {
		page, err := s.List(b.Context(), storage.Selector{Resource: "pods"}, storage.ListOptions{})
		if err != nil || len(page.Objects) != 5000 {
			b.Fatalf("%d objects, error %v", len(page.Objects), err)
		}
	}
}

// benchPast lists as of a revision after which a fifth of the objects changed.
func benchPast(b *testing.B, be Backend) {
	s := be.Open(b)
	ops := fill(b, s, 5000)
	head, err := s.Head(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for i := range ops[:1000] {
		ops[i].Verb = storage.Update
	}
	mustCommit(b, s, ops[:1000]...)
	for b.Loop() {
		page, err := s.List(b.Context(), storage.Selector{Resource: "pods"}, storage.ListOptions{Revision: head.Revision})
		if err != nil || len(page.Objects) != 5000 {
			b.Fatalf("%d objects, error %v", len(page.Objects), err)
		}
	}
}

func benchChanges(b *testing.B, be Backend) {
	s := be.Open(b)
	fill(b, s, 5000)
	for b.Loop() {
		batch, err := s.Changes(b.Context(), 1001, 1000)
		if err != nil || len(batch.Changes) != 1000 {
			b.Fatalf("%d changes, error %v", len(batch.Changes), err)
		}
	}
}

func benchHead(b *testing.B, be Backend) {
	s := be.Open(b)
	for b.Loop() {
		if _, err := s.Head(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
