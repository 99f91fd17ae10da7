package read_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rowlock-io/rowlock/server/read"
)

// discard is a ResponseWriter that only counts.
type discard struct {
	header http.Header
	bytes  atomic.Int64
	gotten func(n int)
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Flush()              {}

func (d *discard) Write(p []byte) (int, error) {
	d.bytes.Add(int64(len(p)))
	if d.gotten != nil {
		d.gotten(len(p))
	}
	return len(p), nil
}

func benchmark(b *testing.B, objects int, path string, header map[string]string) {
	c, h := newCluster(b, read.Config{})
	c.big(b, objects)
	handler := c.handler(h)
	req := httptest.NewRequest(http.MethodGet, path, nil)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	w := &discard{header: http.Header{}}
	handler.ServeHTTP(w, req) // what is found once and kept is not what is measured
	if w.header.Get(wayHeader) != "bytes" {
		b.Fatal("not answered from bytes")
	}
	w.bytes.Store(0)
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		handler.ServeHTTP(w, req)
	}
	b.SetBytes(w.bytes.Load() / int64(b.N))
}

var media = []struct{ name, accept string }{{"json", asJSON}, {"proto", asProtobuf}}

func BenchmarkGet(b *testing.B) {
	for _, m := range media {
		b.Run(m.name, func(b *testing.B) {
			benchmark(b, 5000, "/api/v1/namespaces/load/configmaps/cm-02500", map[string]string{"Accept": m.accept})
		})
	}
}

func BenchmarkList5000(b *testing.B) {
	for _, m := range media {
		for _, q := range []struct{ name, query string }{
			{"all", ""},
			{"any", "?resourceVersion=0"},
			{"page500", "?limit=500"},
			{"selector1pc", "?labelSelector=tier%3Dgold"},
			{"field", "?fieldSelector=metadata.name%3Dcm-02500"},
		} {
			b.Run(m.name+"/"+q.name, func(b *testing.B) {
				benchmark(b, 5000, "/api/v1/configmaps"+q.query, map[string]string{"Accept": m.accept})
			})
		}
		b.Run(m.name+"/gzip", func(b *testing.B) {
			benchmark(b, 5000, "/api/v1/configmaps", map[string]string{"Accept": m.accept, "Accept-Encoding": "gzip"})
		})
	}
}

// BenchmarkWatchDelivery changes one object that 1,000 watchers watch; one operation is one change, delivered to all.
func BenchmarkWatchDelivery(b *testing.B) {
	const watchers = 1000
	for _, m := range media {
		b.Run(m.name, func(b *testing.B) {
			c, h := newCluster(b, read.Config{})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			obj := configMap("default", "a", nil, "x")
			rev := c.put(b, "configmaps", stored(obj))
			var ready, delivered sync.WaitGroup
			var running sync.WaitGroup
			ready.Add(watchers)
			var first atomic.Bool
			for range watchers {
				req := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/api/v1/configmaps?watch=true&resourceVersion=%d", rev), nil)
				req.Header.Set("Accept", m.accept)
				w := &discard{header: http.Header{}}
				w.gotten = func(int) {
					if first.Load() {
						delivered.Done()
					} else {
						ready.Done()
					}
				}
				running.Go(func() { c.handler(h).ServeHTTP(w, req.WithContext(ctx)) })
			}
			c.put(b, "configmaps", stored(configMap("default", "a", nil, "first")))
			ready.Wait()
			first.Store(true)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				delivered.Add(watchers)
				c.put(b, "configmaps", stored(configMap("default", "a", nil, fmt.Sprint(i))))
				delivered.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/watchers, "ns/delivery")
			cancel()
			running.Wait()
		})
	}
}
