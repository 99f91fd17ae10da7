package tunnel_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/rowlock-io/rowlock/tunnel"
)

// idle reports what each of many connections costs that begin makes and that nobody uses.
func idle(b *testing.B, begin func(near, far net.Conn) (end func())) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	look := func() (bytes float64, goroutines int) {
		time.Sleep(100 * time.Millisecond)
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()
	}
	memory, goroutines := look()
	var ends []func()
	for range b.N {
		near, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		far, err := listener.Accept()
		if err != nil {
			b.Fatal(err)
		}
		ends = append(ends, begin(near, far))
	}
	m, g := look()
	b.ReportMetric((m-memory)/float64(b.N), "B/tunnel")
	b.ReportMetric(float64(g-goroutines)/float64(b.N), "goroutines/tunnel")
	for _, end := range ends {
		end()
	}
}

// BenchmarkIdleServer is the server's end of a tunnel over a plain connection: -benchtime=1000x.
func BenchmarkIdleServer(b *testing.B) {
	idle(b, func(near, far net.Conn) func() {
		if err := http2.NewFramer(far, nil).WriteSettings(); err != nil {
			b.Fatal(err)
		}
		session, err := tunnel.Accept(near)
		if err != nil {
			b.Fatal(err)
		}
		return func() {
			session.Close()
			_ = far.Close()
		}
	})
}

// BenchmarkIdleAgent is the agent's.
func BenchmarkIdleAgent(b *testing.B) {
	node := tunnel.Node{Leave: func() {}, Log: slog.New(slog.DiscardHandler), Dial: func(context.Context) (net.Conn, error) { return nil, io.EOF }}
	idle(b, func(near, far net.Conn) func() {
		if _, err := io.WriteString(far, http2.ClientPreface); err != nil {
			b.Fatal(err)
		}
		if err := http2.NewFramer(far, nil).WriteSettings(); err != nil {
			b.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() { node.Serve(context.Background(), near) })
		return func() {
			_ = far.Close()
			serving.Wait()
		}
	})
}
