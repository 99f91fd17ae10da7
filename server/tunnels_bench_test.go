package server_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/tunnel"
)

// BenchmarkIdleTunnel is what a tunnel costs a server that nobody uses, with the TLS of both of its ends: -benchtime=500x.
func BenchmarkIdleTunnel(b *testing.B) {
	s := servertest.Start(b, servertest.Config{})
	kube := s.Client(b, servertest.Default)
	var transports []*rest.Config
	for i := range b.N {
		name := fmt.Sprint("node-", i)
		if _, err := kube.CoreV1().Nodes().Create(b.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		config := s.WithCertificate(b, servertest.Default, servertest.Default, pki.Client{User: "system:node:" + name, Groups: []string{"system:nodes"}})
		config.NextProtos = []string{"http/1.1"}
		transports = append(transports, config)
	}
	look := func() (bytes float64, goroutines int) {
		time.Sleep(time.Second)
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()
	}
	memory, goroutines := look()
	b.ResetTimer()
	for i, config := range transports {
		transport, err := rest.TransportFor(config)
		if err != nil {
			b.Fatal(err)
		}
		conn, err := tunnel.Dial(b.Context(), transport, config.Host+tunnel.Path(fmt.Sprint("node-", i)))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		if err := http2.NewFramer(conn, nil).WriteSettings(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	m, g := look()
	b.ReportMetric((m-memory)/float64(b.N), "B/tunnel")
	b.ReportMetric(float64(g-goroutines)/float64(b.N), "goroutines/tunnel")
}
