package postgres

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// BenchmarkWriters gathers the writes of so many writers as storage/commit does: one commit is under way, and the next
// takes what has come meanwhile. Objects have 1.2 KB and are updated again and again.
func BenchmarkWriters(b *testing.B) {
	for _, writers := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			s := newBackend(b).Open(b)
			heads := make([]storage.Revision, writers)
			data := make([]byte, 600)
			_, _ = rand.Read(data)
			body := fmt.Appendf(nil, `{"kind":"Pod","metadata":{"name":"a"},"data":"%x"}`, data)[:1200]
			type write struct {
				op     storage.Op
				answer chan storage.Result
			}
			queue := make(chan write, writers)
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				for first := range queue {
					batch := []write{first}
					for len(batch) < 256 && len(queue) > 0 {
						batch = append(batch, <-queue)
					}
					ops := make([]storage.Op, len(batch))
					for i := range batch {
						ops[i] = batch[i].op
					}
					done, err := s.Commit(b.Context(), ops)
					if err != nil {
						b.Error(err)
						done.Results = make([]storage.Result, len(ops))
					}
					for i := range batch {
						batch[i].answer <- done.Results[i]
					}
				}
			}()
			var left atomic.Int64
			left.Store(int64(b.N))
			var before, after syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
			b.ResetTimer()
			began := time.Now()
			var all sync.WaitGroup
			for w := range writers {
				all.Go(func() {
					answer := make(chan storage.Result, 1)
					key := storage.Key{Resource: "pods", Namespace: "default", Name: fmt.Sprintf("pod-%d", w)}
					for left.Add(-1) >= 0 {
						op := storage.Op{Key: key, Verb: storage.Update, Expect: heads[w], Data: body}
						if heads[w] == 0 {
							op.Verb = storage.Create
						}
						queue <- write{op, answer}
						r := <-answer
						if r.Err != nil {
							b.Error(r.Err)
							return
						}
						heads[w] = r.Revision
					}
				})
			}
			all.Wait()
			b.StopTimer()
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			close(queue)
			<-stopped
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "writes/s")
			cpu := time.Duration(after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano())
			b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "client-cpu-µs/write")
		})
	}
}
